// Sparse shortest augmenting paths over candidate lists: one free row is matched at a time, along
// the cheapest alternating path that ends in a free column (Dijkstra on reduced costs).
//
//   R. Jonker, A. Volgenant, "A shortest augmenting path algorithm for dense and sparse
//   linear assignment problems", Computing 38 (1987), section 4.
//
// Difference from the paper: the sparse graph is never wrong.  A scanned row i at distance b_i
// offers its listed columns at once and everything else at b_i + t_i or beyond, t_i the bound of
// its list.  That key waits in the heap like a column; when it comes up before any free column, the
// row is read for its own nearest free column, which ends the path where costs tie at the bound:
// before all columns at that distance, of which there may be many.  Otherwise, once these are
// settled, the list is made again or lengthened and the row offers more.  Lists grow to whole rows
// if they must, so a path is found if there is one, and it is a shortest one of the dense graph.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "candidates.h"
#include "context.h"

namespace bmatch {

class ListPaths {
 public:
  // Lists that come to their end hold all that is below a plateau, if that may be.
  ListPaths(const Context& context, CandidateLists& lists, bool below_plateaus = false);

  struct Budget {
    std::int64_t pops;   // columns and rows taken from the heap
    std::int64_t reads;  // of rows whose bound came up; a list that grows counts for kGrowthReads
  };

  // Matches the free row and lowers prices so that every matched edge is tight again.
  Step augment(Index free_row, Budget& budget);

  // After Step::infeasible: rows that together reach fewer columns than they are many.
  // Ascending.
  std::vector<Index> trapped() const;

 private:
  struct Key {
    double distance;
    Index id;  // a column, or ~i for row i's bound
    friend bool operator<(const Key& a, const Key& b) { return a.distance > b.distance; }
  };
  void offer(Index i, double base);
  void offer_free(Index i, double base);
  std::int64_t grow(Index i);
  void settle(Index j);
  void push(double distance, Index id);
  void advance();
  void ask(Index i, Budget& budget);

  const RowScanner& costs_;
  Matching& matching_;
  CandidateLists& lists_;
  const bool below_plateaus_;
  Stats& stats_;
  const Interrupted& interrupted_;
  const RowKernels& kernels_;
  std::vector<double> distance_;          // [cols], infinite between searches
  std::vector<Index> predecessor_;        // [cols]
  std::vector<std::uint8_t> is_settled_;  // [cols]
  std::vector<double> base_;              // [rows], b_i of rows scanned in this search
  std::vector<Index> reached_, settled_, rows_;
  std::vector<Index> fresh_;            // rows whose lists were made at present prices
  std::vector<std::uint8_t> is_fresh_;  // [rows]
  std::vector<Key> heap_;
  std::vector<std::uint8_t> free_;  // [padded cols / 8], one bit a column, once it is asked for
  std::unique_ptr<RowScanner::Scratch> scratch_;
  // At the distance of the search: columns, rows whose bound it is, and those of them that were
  // read and have no free column there.
  std::vector<Index> level_, bounds_, ended_;
  int misses_ = 0;     // reads for a free column since the last one that found it
  double at_ = 0.0;    // distance of the search
  double best_ = 0.0;  // of the nearest free column
  Index best_col_ = kNone;
  std::int64_t turns_ = 0;
};

}  // namespace bmatch
