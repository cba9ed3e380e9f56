#include "regret_start.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "column_prices.h"
#include "policy.h"

namespace bmatch {

Step regret_start(const Context& context) {
  const RowScanner& costs = context.costs;
  Matching& matching = context.matching;
  const Index n = costs.rows(), cols = costs.cols();
  RowScanner::Scratch scratch = costs.scratch();
  std::vector<std::uint8_t> free(padded(cols) / 8, 0);
  std::vector<double>& v = matching.v;
  // f(i) for the rows in an order; false if the user wants to stop.
  const auto every_row = [&](const std::vector<Index>& order, auto f) {
    for (Index k = 0; k < n; ++k) {
      if (k % kReadsATurn == 0 && context.interrupted()) return false;
      f(order[k]);
    }
    context.stats.row_reads += n;
    return true;
  };

  std::vector<Index> order(n);
  std::iota(order.begin(), order.end(), Index{0});
  bool valid = true;
  std::vector<double> least(padded(cols), kInfinity);
  const std::vector<double> zero(padded(cols), 0.0);
  const bool lowered = every_row(order, [&](Index i) {
    const Claim row = costs.claim(i, zero.data(), free.data(), scratch);
    valid &= row.valid;
    if (row.best < kInfinity) costs.lower(i, row.best, least.data(), scratch);
  });
  if (!lowered) return Step::interrupted;
  if (!valid) return Step::invalid;
  set_column_prices(matching, least);
  const std::vector<double> of_columns = v;

  std::vector<double> regret(n);
  if (!every_row(order, [&](Index i) {
        const BestTwo b = costs.best_two(i, v.data(), free.data(), scratch);
        regret[i] = b.second - b.best;  // NaN where there is no cost at all
        if (!(regret[i] >= 0.0)) regret[i] = 0.0;
      })) {
    return Step::interrupted;
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](Index a, Index b) { return regret[a] > regret[b]; });

  free = free_columns(matching);
  if (!every_row(order, [&](Index i) {
        const BestTwo b = costs.best_two(i, v.data(), free.data(), scratch);
        if (!(b.best_free < kInfinity)) return;
        matching.match(i, b.free_col);
        take_column(free, b.free_col);
      })) {
    return Step::interrupted;
  }
  std::reverse(order.begin(), order.end());
  if (!every_row(order, [&](Index i) {
        const Index j = matching.col_of_row[i];
        if (j == kNone) return;
        const double price = v[j];
        costs.lower(i, costs.cost(i, j) - price, v.data(), scratch);
        v[j] = price;  // which rounding may have lowered
      })) {
    return Step::interrupted;
  }
  Index tight = 0;
  if (!every_row(order, [&](Index i) {
        const Index j = matching.col_of_row[i];
        if (j == kNone) return;
        if (costs.cost(i, j) - v[j] > costs.claim(i, v.data(), free.data(), scratch).best) {
          matching.unmatch(i);
        } else {
          ++tight;
        }
      })) {
    return Step::interrupted;
  }
  if (is_below(tight, n, kMostTight)) {
    matching = Matching(n, cols);
    matching.v = of_columns;
  }
  return Step::done;
}

}  // namespace bmatch
