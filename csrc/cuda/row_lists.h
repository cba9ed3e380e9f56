// Candidate lists on the device: one read of a row by a warp, and what a list says at given prices.
//
// A warp deals the columns of a row into 128 bins, neighbours into different ones, and keeps of
// each bin the best entry and the value of the second.  Every column but the bins' best is at
// least the least of the seconds, so that is the list's bound, and the bests below it are the list:
// one read finds both, some 14 entries on a random row.
#pragma once

#include "fours.h"

namespace bmatch::cuda {

// Prices as a scan reads them.
struct NoPrices {
  static constexpr bool kNone = true;
};
struct FlatPrices {
  static constexpr bool kNone = false;
  const double* v;
  __device__ double operator()(int j) const { return peek(v + j); }
  __device__ void pair_too(int j, double (&out)[2]) const { peek_pair_too(v + j, out); }
};

// What a scan finds beside the list.
struct RowBest {
  double best;
  int col;     // the lowest that attains it, kNobody if nothing is finite
  bool valid;  // no NaN, no -infinity
};

// Reads row i and makes its list at these prices; in `slack`, how far the bound is from the best.
// What other lanes read of the old list has to lie behind a __syncwarp().
template <typename T, typename Prices>
__device__ BMATCH_OUT_OF_LINE RowBest scan_row(const Problem<T>& given, const State& s, int i,
                                               Prices prices) {
  using Number = typename Stored<T>::Number;
  using Value = std::conditional_t<Prices::kNone, Number, double>;
  const Problem<T> p = given;  // in registers
  const T* const row = p.row(i);
  const int lane = lane_id();
  Value best[kFour], second[kFour];
  int col[kFour];
#pragma unroll
  for (int e = 0; e < kFour; ++e) {
    best[e] = second[e] = static_cast<Value>(infinity());
    col[e] = kNobody;
  }
  bool valid = true;
  constexpr int kAhead = (Prices::kNone ? 32 : 16) / (sizeof(T) < 4 ? 4 : sizeof(T));
  for (int from = 0; from < p.cols; from += kAhead * kFours) {
    const T* rows[kAhead];
    int first[kAhead];
    T x[kAhead][kFour];
    Value price[kAhead][kFour];
    new_trip();
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      rows[a] = row;
      first[a] = from + a * kFours + lane * kFour;
    }
    load_fours(p, rows, first, x);
    if constexpr (!Prices::kNone) {
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
#pragma unroll
        for (int e = 0; e < kFour; e += 2) {  // a pair that ends beyond the last has room there
          const int j = first[a] + e;
          double pair[2];
          prices.pair_too(j < p.cols ? j : 0, pair);
          price[a][e] = pair[0];
          price[a][e + 1] = pair[1];
        }
      }
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (from + a * kFours >= p.cols) break;
#pragma unroll
      for (int e = 0; e < kFour; ++e) {
        const Number cost = cost_at(p, x[a][e], first[a] + e);
        valid &= cost > -static_cast<Number>(infinity());
        Value value = cost;
        if constexpr (!Prices::kNone) value -= price[a][e];
        // Without branches: of 32 lanes some would take any.
        const bool less = value < best[e];
        const Value higher = less ? best[e] : value;
        second[e] = higher < second[e] ? higher : second[e];
        best[e] = less ? value : best[e];
        col[e] = less ? first[a] + e : col[e];
      }
    }
  }

  Value top = best[0], next = second[0];
  int top_col = col[0], at = 0;
#pragma unroll
  for (int e = 1; e < kFour; ++e) {
    next = second[e] < next ? second[e] : next;
    if (best[e] < top || (best[e] == top && col[e] != kNobody && col[e] < top_col)) {
      top = best[e];
      top_col = col[e];
      at = e;
    }
  }
  Value bound = least_in_warp(next);
  int below = 0;
#pragma unroll
  for (int e = 0; e < kFour; ++e) {
    below += __popc(__ballot_sync(kAllLanes, best[e] < bound));
  }
  if (below > kListRoom) {
    // Four bins become one: half of the room is enough for the lanes' bests.
#pragma unroll
    for (int e = 0; e < kFour; ++e) {
      if (e == at) continue;
      next = best[e] < next ? best[e] : next;
      best[e] = static_cast<Value>(infinity());
    }
    bound = least_in_warp(next);
  }

  const std::size_t list = static_cast<std::size_t>(i) * kListRoom;
  const auto enter = [&](int slot, Number cost, int j) {
    static_cast<Number*>(s.list_cost)[list + slot] = cost;
    if (s.short_col != nullptr) {
      s.short_col[list + slot] = static_cast<std::uint16_t>(j);
    } else {
      s.long_col[list + slot] = j;
    }
  };
  const unsigned lower_lanes = (1u << lane) - 1u;
  int used = 0;
  for (int pass = 0; pass < 2; ++pass) {  // entries below the bound, then those at it if they fit
#pragma unroll
    for (int e = 0; e < kFour; ++e) {
      const bool taken = col[e] != kNobody && best[e] < static_cast<Value>(infinity()) &&
                         (pass == 0 ? best[e] < bound : best[e] == bound);
      const unsigned takers = __ballot_sync(kAllLanes, taken);
      const int slot = used + __popc(takers & lower_lanes);
      if (taken && slot < kListRoom) {
        enter(slot, cost_of(Stored<T>::number(row[col[e]]), p.bits), col[e]);
      }
      used += __popc(takers);
    }
  }
  if (lane >= used) enter(lane, static_cast<Number>(infinity()), 0);
  RowBest found{static_cast<double>(top), top_col, valid};
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const double other = __shfl_xor_sync(kAllLanes, found.best, step);
    const int other_col = __shfl_xor_sync(kAllLanes, found.col, step);
    if (other < found.best || (other == found.best && other_col != kNobody &&
                               (found.col == kNobody || other_col < found.col))) {
      found.best = other;
      found.col = other_col;
    }
  }
  found.valid = __ballot_sync(kAllLanes, !found.valid) == 0;
  if (lane == 0) {
    s.bound[i] = static_cast<double>(bound);
    s.slack[i] = static_cast<double>(bound) - found.best;  // NaN where neither is finite
  }
  __syncwarp();
  return found;
}

// A lane's entry of a row's list; column 0 at infinite cost where the list is shorter.
struct Entry {
  double cost;
  int col;
  double bound;  // of the row
};

// In the trip of the read before it.
template <typename T>
__device__ Entry entry_too(const Problem<T>&, const State& s, int i) {
  using Number = typename Stored<T>::Number;
  const std::size_t at = static_cast<std::size_t>(i) * kListRoom + lane_id();
  const Number cost = peek_too(static_cast<const Number*>(s.list_cost) + at);
  const int col = s.short_col != nullptr ? peek_too(s.short_col + at) : peek_too(s.long_col + at);
  return {static_cast<double>(cost), col, peek_too(s.bound + i)};
}
template <typename T>
__device__ Entry entry(const Problem<T>& p, const State& s, int i) {
  new_trip(static_cast<const unsigned char*>(s.list_cost) + i * kListRoom);
  return entry_too(p, s, i);
}

// A list at present prices, a warp's view.
struct Look {
  double value;         // c - v of the lane's entry
  double best, second;  // second: no other column of the whole row is below it
  int col;              // the lowest listed column that attains the best
  double bound;
  __device__ bool current() const { return best <= bound; }  // else the row has to be read again
};

// `price`: of the lane's entry.
__device__ inline Look look(const Entry& e, double price) {
  Look l;
  l.value = e.cost < infinity() ? e.cost - price : infinity();
  l.best = number_of(least_in_warp(key_of(l.value)));
  const bool attains = l.value == l.best && l.best < infinity();
  l.col = static_cast<int>(
      __reduce_min_sync(kAllLanes, attains ? static_cast<unsigned>(e.col) : ~0u));  // ~0: kNobody
  const bool first = attains && e.col == l.col;
  l.second = number_of(least_in_warp(key_of(first ? infinity() : l.value)));
  l.bound = e.bound;
  l.second = l.bound < l.second ? l.bound : l.second;
  return l;
}

// A list made anew, where it no longer tells the best.
template <typename T, typename Prices>
__device__ void read_again(const Problem<T>& p, const State& s, int i, Prices prices) {
  __syncwarp();
  scan_row(p, s, i, prices);
  if (lane_id() == 0) atomicAdd(&s.control->report.rescans, 1);
}

// The best of row i, with the row read again if need be.
template <typename T, typename Prices>
__device__ Look fresh_look(const Problem<T>& p, const State& s, int i, Prices prices) {
  for (;;) {
    const Entry e = entry(p, s, i);
    const Look l = look(e, prices(e.col));
    if (l.current()) return l;
    read_again(p, s, i, prices);
  }
}

}  // namespace bmatch::cuda
