// Columns with a price that nobody pays, in matrices with more columns than rows.
//
// An unmatched column has price zero.  Where columns were given prices before rows bid
// (column_prices.h), some are left with one.  All prices that are paid may rise as one until the
// first of them is zero.  Then a spare column's price rises along a shortest alternating path over
// the columns' own costs: to zero, or until a matched column's has come there, which gives its row
// away and is spare in its place.  Since any row reached is such an end at the price of its
// column, few columns are read.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "assignment/rows/row_scanner.h"
#include "context.h"

namespace bmatch {

class SpareColumns {
 public:
  explicit SpareColumns(const Context& context);

  std::int64_t count() const { return static_cast<std::int64_t>(spare_.size()); }

  // Until none has a price, where every row has a column; reads at most so many columns.
  Step raise(std::int64_t reads);

 private:
  struct Settled {
    Index row;
    double u, distance;
  };
  void raise_all_paid();
  Step raise(Index spare);
  double nearest_end(Index& row) const;
  void flip(Index spare, Index row, double left);

  const Context& context_;
  Matching& matching_;
  std::vector<Index> spare_;
  std::unique_ptr<RowScanner> columns_;  // once they are read
  std::int64_t left_ = 0;
  std::vector<double> u_;           // [padded rows]
  std::vector<double> paid_;        // [padded rows], minus the price of the row's column
  std::vector<double> distance_;    // [padded rows]
  std::vector<Index> predecessor_;  // [padded rows], the column through which it is reached
  std::vector<std::uint8_t> free_;  // [padded rows / 8]: none is
  std::vector<Settled> settled_;    // in the order of their distance
  std::unique_ptr<RowScanner::Scratch> scratch_;
  PathState state_{};
};

}  // namespace bmatch
