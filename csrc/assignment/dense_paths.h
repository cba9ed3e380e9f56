// The solver without lists: every step reads whole rows, in float64.
//
// It is the whole solver for small matrices, the fallback for matrices on which lists do not
// help (few distinct values, equal rows or columns, sums and products of two vectors), and the
// finish at extreme dynamic range, where its prices stay smaller than an auction's.
//
//   R. Jonker, A. Volgenant, "A shortest augmenting path algorithm for dense and sparse
//   linear assignment problems", Computing 38 (1987).
//
// Differences from the paper: a free column at the distance of the search ends it at once, the
// nearest column is found by the same sweep that lowers the distances, and every stage prefers
// free columns among equals.
#pragma once

#include <cstdint>
#include <vector>

#include "context.h"

namespace bmatch {

class DensePaths {
 public:
  // Takes over the matching; its prices are current again after every public method.
  explicit DensePaths(const Context& context);

  // Free rows take a free column among their minima, the lowest one.  At price zero, rows wait for
  // the others if a good part of their costs are least.
  Step claim_minima();

  // Prices of free columns rise until one row finds them a minimum, or of a matrix that is not
  // square fall (column_prices.h), then free rows claim.  At price zero: after claim_minima(), or
  // at the very beginning, where rows count as if their minima were zero.
  Step reduce_columns();

  // Minima of the rows where they are to claim, then of the columns if many rows are free.
  Step start(bool claims);

  // Augmenting row reduction: free rows bid the difference of their two best, so often, and more as
  // long as fewer and fewer rows are free.
  Step reduce_rows(std::int64_t bids);

  // Shortest augmenting paths for all free rows; reads at most `sweeps` rows.  If it hurries, it
  // gives up as soon as the paths found so far let it expect that all would take more.
  Step augment_all(std::int64_t sweeps, bool hurries = false);

  // Those that do not wait.
  std::size_t free_rows() const { return free_rows_.size(); }

  // c_ij - v_j of matched rows, the least of others, which are read; [padded rows].
  std::vector<double> row_duals();

  // After Step::infeasible: rows that together reach fewer columns than they are many, which
  // proves by Hall's theorem that no complete matching exists.  Ascending.
  std::vector<Index> trapped() const;

 private:
  struct Settled {
    Index col;
    double price, distance;
  };
  Step claim_free(bool may_wait);
  Step claim_waiting();
  Step augment_free(std::int64_t& left, std::int64_t given, bool hurries);
  Step augment(Index free_row, std::int64_t& sweeps);
  void match(Index i, Index j);
  void publish_prices();
  bool take_turn();  // asks now and then whether the user wants to stop

  const RowScanner& costs_;
  Matching& matching_;
  Stats& stats_;
  const Interrupted& interrupted_;
  std::vector<double> price_, distance_;  // [padded cols]
  std::vector<Index> predecessor_;        // [padded cols], the row through which it is reached
  std::vector<std::uint8_t> free_;        // [padded cols / 8], one bit a column
  std::vector<double> minimum_;           // [rows], as last claimed
  std::vector<Settled> settled_;          // in the order of their distance
  std::vector<Index> free_rows_, waiting_;
  RowScanner::Scratch scratch_;
  PathState state_{};
  std::int64_t turns_ = 0;
  Index start_ = kNone;
};

}  // namespace bmatch
