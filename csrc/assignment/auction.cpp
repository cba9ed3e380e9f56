#include "auction.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "policy.h"

namespace bmatch {

// The best of row i.  If it has to be read again, so are those of the next rows, row_after(0), ...,
// that will have to be, too: together they are read in less time, and their bounds stay true while
// prices fall until it is their turn.
template <typename F>
ListBest Auction::best(Index i, std::int64_t more, F row_after) {
  ListBest b, other;
  while (!lists_.look(i, b)) {
    Index rows[kChunk] = {i};
    int count = 1;
    for (Index k = 0; k < std::min<std::int64_t>(more, kLookAhead) && count < kChunk; ++k) {
      const Index row = row_after(k);
      if (!lists_.look(row, other)) rows[count++] = row;
    }
    lists_.rescan(rows, count);
  }
  return b;
}

// A free column of the list whose reduced cost is `best`, or kNone.
Index Auction::free_tied_column(Index i, double best) const {
  const CandidateLists::List list = lists_.of(i);
  for (int k = 0; k < list.size; ++k) {
    const Index j = list.col[k];
    if (list.cost[k] - matching_.v[j] == best && matching_.row_of_col[j] == kNone) return j;
  }
  return kNone;
}

// The same outside the list, where that ties as a whole: once for a row, which is read for it.
Index Auction::free_tied_beyond(Index i, double best) {
  if (asked_.empty()) {
    asked_.resize(costs_.rows(), 0);
    free_ = free_columns(matching_);
    scratch_ = std::make_unique<RowScanner::Scratch>(costs_.scratch());
  }
  if (std::exchange(asked_[i], 1)) return kNone;
  ++stats_.row_reads;
  const Claim claim = costs_.claim(i, matching_.v.data(), free_.data(), *scratch_);
  return claim.best == best ? claim.free_col : kNone;
}

std::int64_t Auction::free_rows() const {
  return std::count(matching_.col_of_row.begin(), matching_.col_of_row.end(), kNone);
}

void Auction::claim_tight() {
  const auto rows = static_cast<Index>(matching_.col_of_row.size());
  for (Index i = 0; i < rows; ++i) {
    if (matching_.col_of_row[i] != kNone) continue;
    const ListBest b = best(i, rows - i - 1, [&](Index k) { return i + 1 + k; });
    if (b.col == kNone) continue;
    const Index j = matching_.row_of_col[b.col] == kNone ? b.col : free_tied_column(i, b.best);
    if (j != kNone) matching_.match(i, j);
  }
}

Step Auction::row_reduction(std::int64_t bids) {
  const auto rows = static_cast<Index>(matching_.col_of_row.size());
  std::vector<Index> stack, later;
  for (Index i = rows - 1; i >= 0; --i) {
    if (matching_.col_of_row[i] == kNone) stack.push_back(i);
  }
  std::int64_t turn = rows, free = stack.size();
  const bool many = is_above(free, rows, kManyFree);
  int standstills = 0, turns = 0;
  for (int round = 0; round < kReductionRounds; ++round) {
    while (!stack.empty()) {
      if (turn-- == 0) {
        const auto left = static_cast<std::int64_t>(stack.size() + later.size());
        standstills = is_above(left, free, kStandstill) ? standstills + 1 : 0;
        if (standstills == kStandstills) return Step::budget_spent;
        const bool slow = ++turns >= kSlowTurns && is_above(left, free, kSlow);
        if (many && slow) return Step::budget_spent;
        turn = rows;
        free = left;
      }
      const Index i = stack.back();
      stack.pop_back();
      if (bids-- <= 0) return Step::budget_spent;
      if (bids % kBidsATurn == 0 && interrupted_()) return Step::interrupted;
      ++stats_.bids;
      const auto left = static_cast<std::int64_t>(stack.size());
      const ListBest b = best(i, left, [&](Index k) { return stack[left - 1 - k]; });
      if (b.col == kNone) return Step::infeasible;
      Index j = b.col;
      const double price = matching_.v[j] - drop(b);
      const bool fell = price < matching_.v[j];
      if (!fell && matching_.row_of_col[j] != kNone) {
        Index tied = free_tied_column(i, b.best);
        if (tied == kNone && lists_.of(i).bound == b.best) tied = free_tied_beyond(i, b.best);
        if (tied != kNone) j = tied;
      }
      if (matching_.row_of_col[j] == kNone) {
        matching_.match(i, j);
        if (!free_.empty()) take_column(free_, j);
        if (fell && j == b.col) lists_.lower_price(j, price);
        continue;
      }
      if (fell) lists_.lower_price(j, price);
      const Index displaced = matching_.match(i, j);
      (fell ? stack : later).push_back(displaced);
    }
    std::reverse(later.begin(), later.end());
    stack.swap(later);
    later.clear();
  }
  return Step::done;
}

Step Auction::phase(double epsilon, std::int64_t bids) {
  const auto rows = static_cast<Index>(matching_.col_of_row.size());
  std::vector<Index> queue(rows);  // a ring: never more than `rows` are free
  Index head = 0, length = 0;
  for (Index i = 0; i < rows; ++i) {
    if (matching_.col_of_row[i] == kNone) queue[length++] = i;
  }
  for (; length > 0; --bids) {
    if (bids <= 0) return Step::budget_spent;
    if (bids % kBidsATurn == 0 && interrupted_()) return Step::interrupted;
    ++stats_.bids;
    const Index i = queue[head];
    const ListBest b = best(i, length - 1, [&](Index k) {
      const Index at = head + 1 + k;
      return queue[at >= rows ? at - rows : at];
    });
    if (b.col == kNone) return Step::infeasible;
    lists_.lower_price(b.col, matching_.v[b.col] - (drop(b) + epsilon));
    const Index displaced = matching_.match(i, b.col);
    if (++head == rows) head = 0;
    if (displaced == kNone) {
      --length;
    } else {
      const Index end = head + length - 1;  // one has left, one comes
      queue[end >= rows ? end - rows : end] = displaced;
    }
  }
  return Step::done;
}

Step Auction::free_unhappy(double epsilon) {
  const auto rows = static_cast<Index>(matching_.col_of_row.size());
  for (Index i = 0; i < rows; ++i) {
    if (i % kReadsATurn == 0 && interrupted_()) return Step::interrupted;
    const Index j = matching_.col_of_row[i];
    if (j == kNone) continue;
    const ListBest b = best(i, rows - i - 1, [&](Index k) { return i + 1 + k; });
    if (lists_.cost(i, j) - matching_.v[j] > b.best + epsilon) matching_.unmatch(i);
  }
  return Step::done;
}

}  // namespace bmatch
