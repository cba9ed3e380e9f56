// A sparse cost matrix: the allowed pairs of each row, cheapest first.
//
// In that order a row seldom has to be looked at whole: prices are at most `ceiling`, so once an
// entry's cost less the ceiling is beyond what is sought, so are all that follow.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "assignment/matching.h"
#include "assignment/reused.h"
#include "assignment/rows/cost_view.h"

namespace bmatch::sparse {

// Where an entry stands in `Costs`.
using Position = std::int64_t;

struct Costs {
  Index rows = 0, cols = 0;
  double limit = kInfinity;     // below infinity: the last `rows` columns are one row's own each
  std::vector<Position> start;  // [rows + 1]
  ReusedVector<double> cost;    // [entries], minimised, finite, ascending in a row,
  ReusedVector<Index> col;      // [entries], and ascending where costs are equal
  std::vector<std::uint8_t>
      negative;  // [entries], as they were given, where magnitudes are matched

  // All columns but rows' own.
  Index given_cols() const { return limit < kInfinity ? cols - rows : cols; }
  bool has_entries(Index i) const { return start[i] < start[i + 1]; }
};

// Entries that are no costs: NaN, and -infinity of the minimised costs.
struct Invalid {
  std::int64_t count = 0;
  std::int64_t first =
      std::numeric_limits<std::int64_t>::max();  // at row * cols + col of what was given
};

// How entries are taken.
struct Terms {
  Sense sense = Sense::minimize;
  bool transposed = false;        // the rows of Costs are the columns of what is given
  bool nonfinite_forbid = false;  // rather than to be invalid
  double limit = kInfinity;       // what costs more is dropped; below infinity, each row has an
                                  // entry of this cost in a column of its own, to stay out by
};

// Entries of one place are added up; then +infinity forbids.  `for_each(f)` calls f(row, col,
// value) for all entries, the same at each call; no sizes or places are checked here.
template <typename F>
Costs make_costs(Index rows, Index cols, const Terms& terms, F for_each, Invalid& invalid);

// Sorts the entries of every row, of which `costs` has them as they were given.
void arrange(Costs& costs, const Terms& terms, Invalid& invalid);

template <typename F>
Costs make_costs(Index rows, Index cols, const Terms& terms, F for_each, Invalid& invalid) {
  Costs costs;
  costs.rows = rows;
  costs.limit = terms.limit;
  const bool limited = terms.limit < kInfinity;
  costs.cols = limited ? cols + rows : cols;
  costs.start.assign(static_cast<std::size_t>(rows) + 2, 0);
  const auto for_all = [&](auto f) {
    for_each(f);
    for (Index i = 0; limited && i < rows; ++i) f(i, cols + i, terms.limit);
  };
  for_all([&](std::int64_t i, std::int64_t, double) { ++costs.start[i + 2]; });
  for (Index i = 0; i < rows; ++i) costs.start[i + 2] += costs.start[i + 1];
  costs.cost.resize(costs.start[rows + 1]);
  costs.col.resize(costs.start[rows + 1]);
  for_all([&](std::int64_t i, std::int64_t j, double value) {
    const Position k = costs.start[i + 1]++;
    costs.cost[k] = value;
    costs.col[k] = static_cast<Index>(j);
  });
  costs.start.pop_back();
  arrange(costs, terms, invalid);
  return costs;
}

// A row's two least reduced costs; `at` is where the least is, -1 if the row has no entry.
struct Best {
  double best, second;
  Position at;
};

inline Best best_of(const Costs& costs, Index i, const double* v, double ceiling) {
  Best b{kInfinity, kInfinity, -1};
  const Position end = costs.start[i + 1];
  for (Position k = costs.start[i]; k < end; ++k) {
    const double c = costs.cost[k];
    if (!(c - ceiling < b.second)) break;
    const double x = c - v[costs.col[k]];
    if (x < b.best) {
      b.second = b.best;
      b.best = x;
      b.at = k;
    } else if (x < b.second) {
      b.second = x;
    }
  }
  return b;
}

// The least reduced cost of a row.
inline double least_of(const Costs& costs, Index i, const double* v, double ceiling) {
  double best = kInfinity;
  const Position end = costs.start[i + 1];
  for (Position k = costs.start[i]; k < end && costs.cost[k] - ceiling < best; ++k) {
    best = std::min(best, costs.cost[k] - v[costs.col[k]]);
  }
  return best;
}

}  // namespace bmatch::sparse
