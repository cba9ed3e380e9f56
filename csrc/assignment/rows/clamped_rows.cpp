#include "clamped_rows.h"

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

}  // namespace bmatch
