#include "exactness.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "assignment/rows/parallel.h"
#include "exactness_rule.h"

namespace bmatch {
namespace {

double greatest_price(const RowScanner& costs, const Matching& matching) {
  double greatest = 0.0;
  for (Index j = 0; j < costs.cols(); ++j) greatest = std::max(greatest, std::fabs(matching.v[j]));
  return greatest;
}

}  // namespace

bool prices_dwarf(const RowScanner& costs, const Matching& matching) {
  const double greatest = greatest_price(costs, matching);
  if (greatest == 0.0) return false;
  const Index rows = costs.rows();
  double magnitudes = 0.0;  // of the first rows; as a rule few of them settle it
  for (Index i = 0; i < rows && prices_dwarf(greatest, magnitudes, rows); ++i) {
    magnitudes += std::fabs(costs.cost(i, matching.col_of_row[i]));
  }
  return prices_dwarf(greatest, magnitudes, rows);
}

ReusedVector<RowMinima> minima_if_matched(const Context& context, const CandidateLists* lists,
                                          ThreadTeam& team) {
  const RowScanner& costs = context.costs;
  const Index rows = costs.rows();
  ReusedVector<RowMinima> minima(rows);
  auto known = [&](Index i) { return !std::isnan(minima[i].best); };
  for (Index i = 0; i < rows; ++i) {
    minima[i].best = lists != nullptr ? lists->least_cost(i) : kNan;
    context.stats.row_reads += !known(i);
  }
  parallel_rows(costs, team, 0, rows, [&](Index i, int count, auto& scratch) {
    const Index end = i + count;
    while (i < end) {
      Index stop = i;
      while (stop < end && !known(stop)) ++stop;
      if (stop > i) costs.minima(i, stop - i, minima.data() + i, scratch);
      for (i = stop; i < end && known(i);) ++i;
    }
  });
  for (Index i = 0; i < rows; ++i) {
    if (costs.cost(i, context.matching.col_of_row[i]) > minima[i].best) return {};
  }
  return minima;
}

bool exact_on_a_grid(const RowScanner& costs, const Matching& matching) {
  const Index rows = costs.rows();
  const double greatest = greatest_price(costs, matching);
  double grid = exactness_grid(greatest, rows);
  if (grid == 0.0) {  // below the normal numbers, where a device asks the host
    int exponent;
    std::frexp(greatest * rows * 0x1p-48, &exponent);
    grid = std::ldexp(1.0, exponent);
  }
  RowScanner::Scratch scratch = costs.scratch();
  const std::vector<std::uint8_t> nobody(padded(costs.cols()) / 8, 0);
  // What rows could gain at most: x - u as it is computed, and what rounding hides of both, each
  // at most 2^-53 of itself.
  double gain = 0.0;
  for (Index i = 0; i < rows; ++i) {
    if (!costs.on_grid(i, grid, scratch)) return false;
    const Index j = matching.col_of_row[i];
    const double x = costs.cost(i, j) - matching.v[j];
    const double u = costs.claim(i, matching.v.data(), nobody.data(), scratch).best;
    gain += (x - u) + 0x1p-52 * std::fabs(x);
  }
  return 2.0 * gain < grid;
}

}  // namespace bmatch
