// Candidate lists on the device: one read of a row by a warp, and what a list says at given prices.
//
// A warp deals the columns of a row into 128 bins, neighbours into different ones, and keeps of
// each bin the best entry and the value of the second.  Every column but the bins' best is at
// least the least of the seconds, so that is the list's bound, and the bests below it are the list:
// one read finds both, some 14 entries on a random row.
#pragma once

#include "problem.h"

namespace bmatch::cuda {

constexpr int kBinsOfLane = 4;

// Prices as a scan reads them.
struct NoPrices {
  static constexpr bool kNone = true;
  __device__ double operator()(int) const { return 0.0; }
};
struct FlatPrices {
  static constexpr bool kNone = false;
  const double* v;
  __device__ double operator()(int j) const { return peek(v + j); }
  __device__ double too(int j) const { return peek_too(v + j); }
};

// Four neighbours of a row, infinite beyond its end.
template <typename T>
__device__ void load_four(const Problem<T>& p, const T* row, int first,
                          typename Stored<T>::Number (&out)[kBinsOfLane]) {
  struct alignas(4 * sizeof(T)) Four {
    T x[kBinsOfLane];
  };
  using Number = typename Stored<T>::Number;
  const T* const from = row + first;
  if (first + kBinsOfLane <= p.cols && reinterpret_cast<std::uintptr_t>(from) % sizeof(Four) == 0) {
    const Four four = *reinterpret_cast<const Four*>(from);
#pragma unroll
    for (int e = 0; e < kBinsOfLane; ++e) out[e] = cost_of(Stored<T>::number(four.x[e]), p.bits);
  } else {
#pragma unroll
    for (int e = 0; e < kBinsOfLane; ++e) {
      out[e] = first + e < p.cols ? cost_of(Stored<T>::number(from[e]), p.bits)
                                  : static_cast<Number>(infinity());
    }
  }
}

// Calls f(j, cost) for the finite costs of row i, each in one lane of the warp.
template <typename T, typename F>
__device__ __forceinline__ void for_finite(const Problem<T>& p, int i, F f) {
  const T* const row = p.row(i);
  for (int first = lane_id() * kBinsOfLane; first < p.cols; first += kWarp * kBinsOfLane) {
    typename Stored<T>::Number x[kBinsOfLane];
    load_four(p, row, first, x);
#pragma unroll
    for (int e = 0; e < kBinsOfLane; ++e) {
      const auto cost = static_cast<double>(x[e]);
      if (cost < infinity()) f(first + e, cost);
    }
  }
}

// What a scan finds beside the list.
struct RowBest {
  double best;
  int col;     // the lowest that attains it, kNobody if nothing is finite
  bool valid;  // no NaN, no -infinity
};

// Reads row i and makes its list at these prices; in `slack`, how far the bound is from the best.
// What other lanes read of the old list has to lie behind a __syncwarp().
template <typename T, typename Prices>
__device__ BMATCH_OUT_OF_LINE RowBest scan_row(const Problem<T>& p, const State& s, int i, Prices prices) {
  using Number = typename Stored<T>::Number;
  using Value = std::conditional_t<Prices::kNone, Number, double>;
  const T* const row = p.row(i);
  const int lane = lane_id();
  Value best[kBinsOfLane], second[kBinsOfLane];
  int col[kBinsOfLane];
#pragma unroll
  for (int e = 0; e < kBinsOfLane; ++e) {
    best[e] = second[e] = static_cast<Value>(infinity());
    col[e] = kNobody;
  }
  bool valid = true;
#pragma unroll 4
  for (int first = lane * kBinsOfLane; first < p.cols; first += kWarp * kBinsOfLane) {
    Number x[kBinsOfLane];
    load_four(p, row, first, x);
#pragma unroll
    for (int e = 0; e < kBinsOfLane; ++e) {
      valid &= x[e] > -static_cast<Number>(infinity());
      Value value = x[e];
      if constexpr (!Prices::kNone) {
        if (first + e < p.cols) value -= prices(first + e);
      }
      if (value < best[e]) {
        second[e] = best[e];
        best[e] = value;
        col[e] = first + e;
      } else if (value < second[e]) {
        second[e] = value;
      }
    }
  }

  Value top = best[0], next = second[0];
  int top_col = col[0], at = 0;
#pragma unroll
  for (int e = 1; e < kBinsOfLane; ++e) {
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
  for (int e = 0; e < kBinsOfLane; ++e) {
    below += __popc(__ballot_sync(kAllLanes, best[e] < bound));
  }
  if (below > kListRoom) {
    // Four bins become one: half of the room is enough for the lanes' bests.
#pragma unroll
    for (int e = 0; e < kBinsOfLane; ++e) {
      if (e == at) continue;
      next = best[e] < next ? best[e] : next;
      best[e] = static_cast<Value>(infinity());
    }
    bound = least_in_warp(next);
  }

  double* const list_cost = s.list_cost + static_cast<std::size_t>(i) * kListRoom;
  int* const list_col = s.list_col + static_cast<std::size_t>(i) * kListRoom;
  const unsigned lower_lanes = (1u << lane) - 1u;
  int used = 0;
  for (int pass = 0; pass < 2; ++pass) {  // entries below the bound, then those at it if they fit
#pragma unroll
    for (int e = 0; e < kBinsOfLane; ++e) {
      const bool taken = col[e] != kNobody && best[e] < static_cast<Value>(infinity()) &&
                         (pass == 0 ? best[e] < bound : best[e] == bound);
      const unsigned takers = __ballot_sync(kAllLanes, taken);
      const int slot = used + __popc(takers & lower_lanes);
      if (taken && slot < kListRoom) {
        list_cost[slot] = p.at(i, col[e]);
        list_col[slot] = col[e];
      }
      used += __popc(takers);
    }
  }
  for (int slot = used + lane; slot < kListRoom; slot += kWarp) {
    list_cost[slot] = infinity();
    list_col[slot] = 0;
  }
  RowBest found{static_cast<double>(top), top_col, valid};
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const double other = __shfl_xor_sync(kAllLanes, found.best, step);
    const int other_col = __shfl_xor_sync(kAllLanes, found.col, step);
    if (other < found.best ||
        (other == found.best && other_col != kNobody && (found.col == kNobody || other_col < found.col))) {
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

// A lane's two entries of a row's list; column 0 at infinite cost where the list is shorter.
struct Entries {
  double cost[2];
  int col[2];
  double bound;  // of the row
};

__device__ inline Entries entries_too(const State& s, int i) {  // in the trip of the read before it
  const std::size_t from = static_cast<std::size_t>(i) * kListRoom + lane_id();
  return {{peek_too(s.list_cost + from), peek_too(s.list_cost + from + kWarp)},
          {peek_too(s.list_col + from), peek_too(s.list_col + from + kWarp)},
          peek_too(s.bound + i)};
}
__device__ inline Entries entries(const State& s, int i) {
  new_trip();
  return entries_too(s, i);
}

// A list at present prices, a warp's view: the lane's two entries, and the best of all.
struct Look {
  double value[2];      // c - v of the lane's entries
  double best, second;  // second: no other column of the whole row is below it
  int col;              // the lowest listed column that attains the best
  double bound;
  __device__ bool current() const { return best <= bound; }  // else the row has to be read again
};

__device__ inline Look look(const Entries& e, const double (&price)[2]) {
  Look l;
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    l.value[k] = e.cost[k] < infinity() ? e.cost[k] - price[k] : infinity();
  }
  const bool swapped =
      l.value[1] < l.value[0] || (l.value[1] == l.value[0] && e.col[1] < e.col[0]);
  l.best = l.value[swapped ? 1 : 0];
  l.second = l.value[swapped ? 0 : 1];
  l.col = l.best < infinity() ? e.col[swapped ? 1 : 0] : kNobody;
  const double own_best = l.best, own_second = l.second;
  const int own_col = l.col;
  l.best = number_of(least_in_warp(key_of(own_best)));
  l.col = static_cast<int>(__reduce_min_sync(
      kAllLanes, own_best == l.best ? static_cast<unsigned>(own_col) : ~0u));  // ~0: kNobody
  const bool beaten = own_col != l.col;
  l.second = number_of(least_in_warp(key_of(beaten ? own_best : own_second)));
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
    const Entries e = entries(s, i);
    const double price[2] = {prices(e.col[0]), prices.too(e.col[1])};
    const Look l = look(e, price);
    if (l.current()) return l;
    read_again(p, s, i, prices);
  }
}

}  // namespace bmatch::cuda
