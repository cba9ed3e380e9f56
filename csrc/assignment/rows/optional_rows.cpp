#include "optional_rows.h"

#include <algorithm>

#include "copied.h"

namespace bmatch {
namespace {

bool has_bit(const std::uint8_t* bits, Index j) { return (bits[j / 8] >> j % 8 & 1) != 0; }

}  // namespace

StoredRow OptionalRows::row(Index i, double* room) const {
  const StoredRow stored = costs_.row(i, room);
  std::visit(
      [&](const auto* entries) {
        const CostBits<std::remove_cv_t<std::remove_pointer_t<decltype(entries)>>> bits(
            stored.sense);
        // From the end, as the entries may lie in the room themselves.
        for (Index j = costs_.cols(); j-- > 0;) room[j] = static_cast<double>(bits(entries[j]));
      },
      stored.entries);
  std::fill(room + costs_.cols(), room + cols(), kInfinity);
  room[own(i)] = limit_;
  return {room, Sense::minimize};
}

double OptionalRows::cost(Index i, Index j) const {
  if (j == own(i)) return limit_;
  return j < costs_.cols() ? costs_.cost(i, j) : kInfinity;
}

AnyCostView OptionalRows::whole() const { return copied(*this, copy_); }

void OptionalRows::minima(Index first, int count, RowMinima* out, Scratch& scratch) const {
  costs_.minima(first, count, out, scratch);
  for (int k = 0; k < count; ++k) {
    out[k].second = std::min(out[k].second, limit_);
    if (limit_ < out[k].best) {
      out[k].best = limit_;
      out[k].col = own(first + k);
    }
  }
}

void OptionalRows::candidates(const Index* rows, int count, PriceView prices, CandidateRow* out,
                              Scratch& scratch) const {
  costs_.candidates(rows, count, prices, out, scratch);
  for (int k = 0; k < count; ++k) add_own(rows[k], prices, out[k]);
}

// Drops what costs more than to stay out, and the dearest if there is no room for one more.  No row
// pays more than the limit, which therefore bounds all that is not listed.
void OptionalRows::add_own(Index i, PriceView prices, CandidateRow& list) const {
  const auto value = [&](int k) {
    return list.cost[k] - (prices.v == nullptr ? 0.0 : prices.v[list.col[k]]);
  };
  int kept = 0;
  for (int k = 0; k < list.size; ++k) {
    if (list.cost[k] > limit_) continue;
    list.cost[kept] = list.cost[k];
    list.col[kept++] = list.col[k];
  }
  list.bound = std::min(list.bound, limit_);
  if (kept == kListCapacity) {
    int dearest = 0;
    for (int k = 1; k < kept; ++k) {
      if (value(k) >= value(dearest)) dearest = k;
    }
    list.bound = std::min(list.bound, value(dearest));
    --kept;
    std::copy(list.cost + dearest + 1, list.cost + kListCapacity, list.cost + dearest);
    std::copy(list.col + dearest + 1, list.col + kListCapacity, list.col + dearest);
  }
  list.cost[kept] = limit_;
  list.col[kept++] = own(i);
  list.size = kept;
  for (; kept % 8 != 0; ++kept) {
    list.cost[kept] = kInfinity;
    list.col[kept] = 0;
  }
}

BestTwo OptionalRows::best_two(Index i, const double* v, const std::uint8_t* free,
                               Scratch& scratch) const {
  BestTwo b = costs_.best_two(i, v, free, scratch);
  const double out = limit_ - v[own(i)];
  b.second = std::min(b.second, out);
  if (out < b.best) {
    b.best = out;
    b.col = own(i);
  }
  if (out < b.best_free && has_bit(free, own(i))) {
    b.best_free = out;
    b.free_col = own(i);
  }
  return b;
}

Claim OptionalRows::claim(Index i, const double* v, const std::uint8_t* free,
                          Scratch& scratch) const {
  Claim claim = costs_.claim(i, v, free, scratch);
  const double out = limit_ - v[own(i)];
  if (out < claim.best || (out == claim.best && claim.free_col == kNone)) {
    claim.best = out;
    claim.free_col = has_bit(free, own(i)) ? own(i) : kNone;
  }
  return claim;
}

// The row's own column is free: rows that stay out are never reached again.
void OptionalRows::relax(Index i, double base, PathState& state, Scratch& scratch) const {
  costs_.relax(i, base, state, scratch);
  const double through = base + (limit_ - state.price[own(i)]);
  if (through < state.free_distance) {
    state.free_distance = through;
    state.free_col = own(i);
    state.predecessor[own(i)] = i;
  }
}

}  // namespace bmatch
