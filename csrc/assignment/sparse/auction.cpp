#include "auction.h"

#include "assignment/policy.h"

namespace bmatch::sparse {

// Rows that wait behind the head: first where their entries begin, then these, then prices.
void Auction::fetch_ahead(Index head, Index length) const {
  constexpr Index kStart = 24, kEntries = 16, kPrices = 8;
  constexpr Position kEntriesAhead = 8;
  const Index rows = state_.costs.rows;
  const auto row_after = [&](Index k) {
    const Index at = head + k;
    return queue_[at >= rows ? at - rows : at];
  };
  const Costs& costs = state_.costs;
  if (length > kStart) __builtin_prefetch(&costs.start[row_after(kStart)]);
  if (length > kEntries) {
    const Position from = costs.start[row_after(kEntries)];
    __builtin_prefetch(costs.cost.data() + from);
    __builtin_prefetch(costs.cost.data() + from + 8);
    __builtin_prefetch(costs.col.data() + from);
  }
  if (length > kPrices) {
    const Index i = row_after(kPrices);
    const Position from = costs.start[i];
    const Position end = std::min(costs.start[i + 1], from + kEntriesAhead);
    for (Position k = from; k < end; ++k) {
      __builtin_prefetch(state_.matching.v.data() + costs.col[k]);
    }
  }
}

// A free column of the row whose reduced cost is `best`, or -1.
Position Auction::free_tied(Index i, double best) const {
  const Costs& costs = state_.costs;
  for (Position k = costs.start[i]; k < costs.start[i + 1]; ++k) {
    if (costs.cost[k] - state_.ceiling > best) break;
    if (state_.reduced(k) == best && state_.matching.row_of_col[costs.col[k]] == kNone) return k;
  }
  return -1;
}

Step Auction::phase(double epsilon, std::int64_t bids) {
  const Index rows = state_.costs.rows;
  Matching& matching = state_.matching;
  double* const v = matching.v.data();
  Index head = 0, length = 0;
  for (Index i = 0; i < rows; ++i) {
    if (matching.col_of_row[i] == kNone) queue_[length++] = i;
  }
  for (; length > 0; --bids) {
    if (bids <= 0) return Step::budget_spent;
    if (bids % kBidsATurn == 0 && state_.interrupted()) return Step::interrupted;
    ++state_.stats.bids;
    fetch_ahead(head, length);
    const Index i = queue_[head];
    if (++head == rows) head = 0;
    --length;
    const Best b = best_of(state_.costs, i, v, state_.ceiling);
    const Index j = state_.costs.col[b.at];
    const double drop = b.second < kInfinity ? b.second - b.best : scale_;
    const double price = v[j] - (drop + epsilon);
    if (!(price < v[j]) && matching.row_of_col[j] != kNone) {
      const Position tied = free_tied(i, b.best);
      if (tied >= 0) state_.match(i, tied);
      continue;
    }
    v[j] = price;
    const Index displaced = state_.match(i, b.at);
    if (displaced == kNone) continue;
    const Index end = head + length++;
    queue_[end >= rows ? end - rows : end] = displaced;
  }
  return Step::done;
}

Step Auction::free_unhappy(double epsilon) {
  const double* const v = state_.matching.v.data();
  for (Index i = 0; i < state_.costs.rows; ++i) {
    if (i % kBidsATurn == 0 && state_.interrupted()) return Step::interrupted;
    if (state_.matching.col_of_row[i] == kNone) continue;
    const double best = least_of(state_.costs, i, v, state_.ceiling);
    if (state_.matched(i) > best + epsilon) state_.matching.unmatch(i);
  }
  return Step::done;
}

}  // namespace bmatch::sparse
