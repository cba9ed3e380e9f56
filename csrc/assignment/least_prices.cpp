#include "least_prices.h"

#include <cmath>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

#include "policy.h"

namespace bmatch {

bool least_prices(const Context& context) {
  const RowScanner& costs = context.costs;
  Matching& matching = context.matching;
  const Index rows = costs.rows(), cols = costs.cols();
  std::vector<double> v(padded(cols), 0.0);
  const std::vector<std::uint8_t> nobody(padded(cols) / 8, 0);
  RowScanner::Scratch scratch = costs.scratch();

  using Rise = std::pair<double, Index>;  // of the price of a row's column, and the row
  const auto rise = [&](Index i) {
    const Index j = matching.col_of_row[i];
    return Rise(v[j] - matching.v[j], i);
  };
  std::vector<Rise> first(rows);
  for (Index i = 0; i < rows; ++i) first[i] = rise(i);
  std::priority_queue<Rise, std::vector<Rise>, std::greater<Rise>> waiting({}, std::move(first));
  std::vector<char> waits(rows, 1);
  std::int64_t left = kLeastPricesReads * rows;
  while (!waiting.empty()) {
    const Index i = waiting.top().second, j = matching.col_of_row[i];
    waiting.pop();
    if (!waits[i]) continue;
    if (left-- == 0 || context.interrupted()) return false;
    waits[i] = 0;
    ++context.stats.row_reads;
    const double x = costs.cost(i, j) - v[j];
    if (costs.claim(i, v.data(), nobody.data(), scratch).best >= x) continue;
    const double* c = costs.row_costs(i, scratch);
    for (Index k = 0; k < cols; ++k) {
      const double price = c[k] - x;
      if (!(price < v[k])) continue;
      const Index holder = matching.row_of_col[k];
      if (holder == kNone) {
        if (price < -0x1p-50 * (std::fabs(c[k]) + std::fabs(x))) return false;
        continue;  // a tie, but for rounding
      }
      v[k] = price;
      waiting.push(rise(holder));
      waits[holder] = 1;
    }
  }
  matching.v.swap(v);
  return true;
}

}  // namespace bmatch
