#include "column_contests.h"

#include <algorithm>
#include <vector>

#include "policy.h"

namespace bmatch {

std::optional<std::int64_t> column_contests(const Context& context) {
  const RowScanner& costs = context.costs;
  const Index n = costs.cols();
  std::vector<double> price(padded(n), -kInfinity), least(padded(n), kInfinity);
  std::fill_n(price.begin(), n, 0.0);
  std::vector<Index> row_of_least(padded(n), kNone);
  const std::vector<std::uint8_t> free(padded(n) / 8, 0);
  PathState state{};
  state.price = price.data();
  state.distance = least.data();
  state.predecessor = row_of_least.data();
  state.free = free.data();
  state.free_distance = kInfinity;
  state.free_col = kNone;
  RowScanner::Scratch scratch = costs.scratch();
  for (Index i = 0; i < costs.rows(); ++i) {
    if (i % kReadsATurn == 0 && context.interrupted()) return std::nullopt;
    ++context.stats.row_reads;
    costs.relax(i, 0.0, state, scratch);
  }

  const double greatest = *std::max_element(least.begin(), least.begin() + n);
  std::vector<char> wanted(costs.rows(), 0);
  std::vector<Index> contested;
  for (Index j = 0; j < n; ++j) {
    if (least[j] == greatest) continue;
    char& row = wanted[row_of_least[j]];
    if (row) contested.push_back(j);
    row = 1;
  }

  const auto count = static_cast<std::int64_t>(contested.size());
  const std::int64_t sampled = std::min(count, kContestsSampled);
  std::int64_t alone = 0;  // those of a sample whose least cost stands in one row
  for (std::int64_t k = 0; k < sampled; ++k) {
    const Index j = contested[k * count / sampled];
    Index equal = 0;
    for (Index i = 0; i < costs.rows(); ++i) equal += costs.cost(i, j) == least[j];
    alone += equal == 1;
  }
  return sampled > 0 ? count * alone / sampled : 0;
}

}  // namespace bmatch
