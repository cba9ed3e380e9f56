#include "least_prices.h"

#include <cmath>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

#include "assignment/policy.h"

namespace bmatch::sparse {

bool least_prices(State& state) {
  const Costs& costs = state.costs;
  Matching& matching = state.matching;
  std::vector<double> v(matching.v.size(), 0.0);

  using Rise = std::pair<double, Index>;  // of the price of a row's column, and the row
  const auto rise = [&](Index i) {
    const Index j = matching.col_of_row[i];
    return Rise(v[j] - matching.v[j], i);
  };
  std::vector<Rise> first(costs.rows);
  for (Index i = 0; i < costs.rows; ++i) first[i] = rise(i);
  std::priority_queue<Rise, std::vector<Rise>, std::greater<Rise>> waiting({}, std::move(first));
  std::vector<char> waits(costs.rows, 1);
  std::int64_t left = kLeastPricesReads * costs.rows;
  while (!waiting.empty()) {
    const Index i = waiting.top().second;
    waiting.pop();
    if (!waits[i]) continue;
    if (left-- == 0 || (left % kReadsATurn == 0 && state.interrupted())) return false;
    waits[i] = 0;
    const double x = costs.cost[state.entry[i]] - v[matching.col_of_row[i]];
    // No price is above zero: what costs x and more is not rather had.
    for (Position k = costs.start[i]; k < costs.start[i + 1] && costs.cost[k] < x; ++k) {
      const Index j = costs.col[k];
      const double price = costs.cost[k] - x;
      if (!(price < v[j])) continue;
      const Index holder = matching.row_of_col[j];
      if (holder == kNone) {
        if (price < -0x1p-50 * (std::fabs(costs.cost[k]) + std::fabs(x))) return false;
        continue;  // a tie, but for rounding
      }
      v[j] = price;
      waiting.push(rise(holder));
      waits[holder] = 1;
    }
  }
  matching.v.swap(v);
  state.ceiling = 0.0;
  return true;
}

}  // namespace bmatch::sparse
