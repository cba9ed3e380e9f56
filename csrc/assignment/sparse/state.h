// What the stages of a sparse solve share.
#pragma once

#include <cstdint>
#include <vector>

#include "assignment/matching.h"
#include "assignment/stats.h"
#include "costs.h"

namespace bmatch::sparse {

// Invariant between stages: every matched edge is tight to within the present epsilon, and where
// there are more columns than rows, free columns have price zero, the greatest.
struct State {
  const Costs& costs;
  Matching& matching;
  Stats& stats;
  const Interrupted& interrupted;
  std::vector<Position> entry;  // [rows], of the matched pair
  double ceiling = 0.0;         // no price is above it; prices only fall

  State(const Costs& given, Matching& m, Stats& s, const Interrupted& asked)
      : costs(given), matching(m), stats(s), interrupted(asked), entry(given.rows) {}

  // Returns the row that becomes free.
  Index match(Index i, Position at) {
    entry[i] = at;
    return matching.match(i, costs.col[at]);
  }
  double reduced(Position at) const { return costs.cost[at] - matching.v[costs.col[at]]; }
  double matched(Index i) const { return reduced(entry[i]); }

  void lower_ceiling() {
    const auto& v = matching.v;
    ceiling = *std::max_element(v.begin(), v.begin() + costs.cols);
  }
  std::int64_t free_rows() const {
    return std::count(matching.col_of_row.begin(), matching.col_of_row.end(), kNone);
  }
};

}  // namespace bmatch::sparse
