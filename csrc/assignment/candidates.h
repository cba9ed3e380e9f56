// Candidate lists: what lets the solver read a row again only when it must.
//
// Row i keeps a short list S_i of columns and a bound t_i with
//
//     c_ij - v_j >= t_i   for every column j outside S_i.
//
// Prices only ever fall, so c_ij - v_j only ever rises and the bound stays true for ever.  As long
// as the best of the list is at most t_i it is the best of the whole row, exactly; a row is
// read again only when that fails.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "assignment/rows/parallel.h"
#include "context.h"
#include "policy.h"

namespace bmatch {

class CandidateLists {
 public:
  struct List {
    const double* cost;
    const Index* col;
    int size;  // a multiple of 8; filled up with column 0 at infinite cost
    double bound;
  };

  CandidateLists(const Context& context, ThreadTeam& team);

  List of(Index i) const;

  // The best of row i at present prices, its lowest column in the list, and a value that no other
  // column falls below; best is infinite if the row has no finite cost.  False if the row has to be
  // read again first.
  bool look(Index i, ListBest& b) const {
    const List list = of(i);
    b = kernels_.list_best(list.cost, list.col, list.size, matching_.v.data());
    if (b.second > list.bound) b.second = list.bound;
    return b.best <= list.bound;
  }

  // The same, read again if need be.
  ListBest best(Index i) {
    ListBest b;
    while (!look(i, b)) rescan(i);
    return b;
  }

  // c_ij; cheap for a listed column.
  double cost(Index i, Index j) const {
    const List list = of(i);
    for (int k = 0; k < list.size; ++k) {
      if (list.col[k] == j && list.cost[k] < kInfinity) return list.cost[k];
    }
    return costs_.cost(i, j);
  }

  // Makes the lists of up to kChunk rows at present prices, in any thread, for a pass over all
  // rows; false if a cost is NaN or -infinity.  Counts nothing.
  bool scan(Index first, int count, RowScanner::Scratch& scratch);

  // The best of a row at price zero as a list of one, bounded by the second best.
  void adopt(Index i, const RowMinima& minima);

  // The least cost of row i, if its list was made at price zero; NaN otherwise.
  double least_cost(Index i) const;

  // Makes lists again at present prices; of up to kChunk rows in all threads at once.
  void rescan(Index i) { rescan(&i, 1); }
  void rescan(const Index* rows, int count);

  // Makes the list again at present prices, at least twice as long.
  void lengthen(Index i);

  // Makes a list of all that costs less than the greatest cost of the row, which prices do not
  // change. False, and nothing is done, if that is too much, or behind the list there is nothing
  // else already.
  bool list_below_plateau(Index i);

  // The only way to change a price while lists are in use.
  void lower_price(Index j, double price) {
    matching_.v[j] = price;
    rounded_[j] = static_cast<float>(price);
    if (-price > magnitude_) magnitude_ = -price;
  }

  // Call after prices changed by other hands: `fell` if none of them rose.
  void prices_changed(bool fell);

  // Medians over some rows all over the matrix (kSampledRows), those of them that have a list of
  // more than one: from the best to the bound, from the best to the second best, and of the best's
  // magnitude.  NaN if there is no such row.
  struct Gap {
    double gap, lead, magnitude;
    double spread;   // of the gaps, their median by their lower quartile
    bool lists_end;  // whether many bounds are tied with what is listed: those lists hold all that
                     // is below a plateau
    bool most_tie;   // whether the two best of most rows do
  };
  Gap typical_gap();

  // Sees to it that every fourth (kSampledAnew) of the rows of typical_gap has a list of more than
  // one.
  void sample();

 private:
  bool ends_in_ties(Index i) const;
  struct LongList {
    std::vector<double> cost;
    std::vector<Index> col;
  };

  Index sample_step() const { return std::max(costs_.rows() / kSampledRows, Index{1}); }
  bool remake(const Index* rows, int count, PriceView prices, RowScanner::Scratch& scratch);

  // The first so many of what was found.
  LongList found(Index count) const;

  // Fills the list up to a multiple of 8.
  void set_long(Index i, LongList list, double bound);

  CandidateRow slot(Index i) {
    const std::int64_t at = std::int64_t{kListCapacity} * i;
    return {cost_.data() + at, col_.data() + at};
  }
  bool adopted(Index i) const { return size_[i] == 8 && bound_[i] < kInfinity; }
  void keep(Index i, const CandidateRow& made) {
    size_[i] = static_cast<std::uint8_t>((made.size + 7) / 8 * 8);
    bound_[i] = made.bound;
  }

  const RowScanner& costs_;
  Matching& matching_;
  Stats& stats_;
  const RowKernels& kernels_;
  ReusedVector<double> cost_;        // [rows, kListCapacity], touched only where lists are made
  ReusedVector<Index> col_;          // [rows, kListCapacity]
  std::vector<std::uint8_t> size_;   // [rows]; kLong where the list is in long_
  std::vector<double> bound_;        // [rows]
  std::vector<std::uint8_t> plain_;  // [rows], whether the list was made at price zero
  std::unordered_map<Index, LongList> long_;
  ReusedVector<double> found_cost_;  // [cols + 8], what a row is read for
  ReusedVector<Index> found_col_;
  std::vector<float> rounded_;  // [padded cols], prices in float32
  double magnitude_ = 0.0;
  ThreadTeam& team_;
  std::vector<RowScanner::Scratch> scratch_;  // one a thread
};

}  // namespace bmatch
