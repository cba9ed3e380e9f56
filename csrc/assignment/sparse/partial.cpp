#include "partial.h"

#include <algorithm>

#include "assignment/sum.h"
#include "blocks.h"

namespace bmatch::sparse {
namespace {

// The entries of a block, whose columns are the rows if they are fewer.  `place`: of each column.
Costs costs_of(const Costs& costs, const Block& block, const std::vector<Index>& place) {
  const auto rows = static_cast<Index>(block.rows.size()),
             cols = static_cast<Index>(block.cols.size());
  const bool tall = rows > cols;
  Invalid none;
  return make_costs(
      std::min(rows, cols), std::max(rows, cols), Terms{},
      [&](auto f) {
        for (Index i = 0; i < rows; ++i) {
          const Index row = block.rows[i];
          for (Position k = costs.start[row]; k < costs.start[row + 1]; ++k) {
            const Index j = place[costs.col[k]];
            if (j == kNone) continue;
            tall ? f(j, i, costs.cost[k]) : f(i, j, costs.cost[k]);
          }
        }
      },
      none);
}

Position entry_of(const Costs& costs, Index i, Index j) {
  const auto first = costs.col.begin();
  return std::find(first + costs.start[i], first + costs.start[i + 1], j) - first;
}

}  // namespace

Solution solve_most(const Costs& costs, const Interrupted& interrupted) {
  Blocks blocks;
  const Step step = find_blocks(costs, interrupted, blocks);
  Solution s{Outcome::optimal, Matching(costs.rows, costs.cols), {}, {}, 0.0, 0.0, {}, {}};
  if (step == Step::interrupted) {
    s.outcome = Outcome::interrupted;
    return s;
  }
  if (blocks.front().rows.empty()) return solve(costs, interrupted);
  s.u.assign(costs.rows, 0.0);
  s.entry.assign(costs.rows, 0);
  Sum objective;
  std::vector<Index> place(costs.cols, kNone);
  for (const Block& block : blocks) {
    if (block.rows.empty() || block.cols.empty()) continue;
    for (std::size_t k = 0; k < block.cols.size(); ++k) {
      place[block.cols[k]] = static_cast<Index>(k);
    }
    const Solution part = solve(costs_of(costs, block, place), interrupted);
    for (const Index j : block.cols) place[j] = kNone;
    if (part.outcome != Outcome::optimal) {
      s.outcome = part.outcome;
      return s;
    }
    const bool tall = block.rows.size() > block.cols.size();
    const std::vector<Index>&rows = tall ? block.cols : block.rows,
          &cols = tall ? block.rows : block.cols;
    std::vector<double>&u = tall ? s.matching.v : s.u, &v = tall ? s.u : s.matching.v;
    for (std::size_t k = 0; k < rows.size(); ++k) {
      const Index other = cols[part.matching.col_of_row[k]];
      const Index i = tall ? other : rows[k], j = tall ? rows[k] : other;
      s.matching.match(i, j);
      s.entry[i] = entry_of(costs, i, j);
      objective.add(costs.cost[s.entry[i]]);
      u[rows[k]] = part.u[k];
    }
    for (std::size_t k = 0; k < cols.size(); ++k) v[cols[k]] = part.matching.v[k];
    s.gap += part.gap;
    s.stats.add(part.stats);
  }
  s.objective = objective.value();
  return s;
}

}  // namespace bmatch::sparse
