// Dense shortest augmenting paths: one free row is matched at a time, along the cheapest
// alternating path that ends in a free column (Dijkstra on reduced costs).
//
//   R. Jonker, A. Volgenant, "A shortest augmenting path algorithm for dense and sparse
//   linear assignment problems", Computing 38 (1987), section 3.
#pragma once

#include <cstdint>
#include <vector>

#include "matching.h"
#include "row_scanner.h"

namespace bmatch {

class PathFinder {
 public:
  PathFinder(const RowScanner& costs, Matching& matching);

  // Matches the free row and lowers prices so that every matched edge is tight again.
  // False if no free column can be reached over finite costs; then trapped() holds.
  bool augment(std::int64_t free_row);

  // After a failure: rows that together reach fewer columns than they are many, which
  // proves by Hall's theorem that no complete matching exists.  Ascending.
  std::vector<std::int64_t> trapped() const;

 private:
  void relax(std::int64_t row, double base);

  const RowScanner& costs_;
  Matching& matching_;
  std::vector<double> distance_;            // [cols]
  std::vector<double> scratch_;             // [cols]
  std::vector<std::int64_t> predecessor_;   // [cols], the row through which it is reached
  std::vector<std::int64_t> open_;          // columns not yet settled, ascending until swaps
  std::vector<std::int64_t> settled_;       // columns in the order of their distance
  std::int64_t start_ = kNone;
};

}  // namespace bmatch
