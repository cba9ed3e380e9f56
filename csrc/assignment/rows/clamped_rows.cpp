#include "clamped_rows.h"

#include <algorithm>

#include "copied.h"

namespace bmatch {

StoredRow ClampedRows::row(Index i, double* room) const {
  const StoredRow stored = costs_.row(i, room);
  return std::visit(
      [&](const auto* entries) -> StoredRow {
        using T = std::remove_cv_t<std::remove_pointer_t<decltype(entries)>>;
        const CostBits<T> bits(stored.sense);
        const auto clamped = [](auto cost, auto limit) { return cost > limit ? limit : cost; };
        if (sizeof(T) == sizeof(double) || !single_) {
          // From the end, as the entries may lie in the room themselves.
          for (Index j = cols(); j-- > 0;) {
            room[j] = clamped(static_cast<double>(bits(entries[j])), limit_);
          }
          return {room, Sense::minimize};
        }
        auto* const out = reinterpret_cast<float*>(room);
        const auto limit = static_cast<float>(limit_);
        for (Index j = 0; j < cols(); ++j)
          out[j] = clamped(static_cast<float>(bits(entries[j])), limit);
        return {out, Sense::minimize};
      },
      stored.entries);
}

double ClampedRows::cost(Index i, Index j) const {
  const double cost = costs_.cost(i, j);
  return cost > limit_ ? limit_ : cost;
}

AnyCostView ClampedRows::whole() const { return copied(*this, copy_); }

std::unique_ptr<RowScanner> ClampedRows::columns() const {
  std::unique_ptr<RowScanner> columns = costs_.columns();
  if (columns == nullptr) return nullptr;
  return std::make_unique<ClampedRows>(std::move(columns), limit_);
}

void ClampedRows::minima(Index first, int count, RowMinima* out, Scratch& scratch) const {
  costs_.minima(first, count, out, scratch);
  for (int k = 0; k < count; ++k) {
    if (!(out[k].best < limit_)) out[k].col = 0;  // all that is above is equal
    out[k].best = std::min(out[k].best, limit_);
    out[k].second = std::min(out[k].second, limit_);
  }
}

// At prices of zero the list of the matrix as it was will do; at others, columns above the limit
// may be the best.
void ClampedRows::candidates(const Index* rows, int count, PriceView prices, CandidateRow* out,
                             Scratch& scratch) const {
  if (prices.magnitude > 0.0) {
    RowScanner::candidates(rows, count, prices, out, scratch);
    return;
  }
  costs_.candidates(rows, count, prices, out, scratch);
  for (int k = 0; k < count; ++k) {
    CandidateRow& list = out[k];
    for (int q = 0; q < list.size; ++q) {
      if (list.cost[q] < kInfinity) list.cost[q] = std::min(list.cost[q], limit_);
    }
    list.bound = std::min(list.bound, limit_);
    if (list.cost[0] == kInfinity) list.cost[0] = limit_;  // of column 0, as of all others
  }
}

}  // namespace bmatch
