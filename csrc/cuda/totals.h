// Sums over the rows of a problem, to about one rounding, which every thread of the team gets.
//
// Stretches of rows are summed by a warp each and their sums added afterwards, so that all warps
// take part and a row costs no trip of its own; the order is the same for any team.
#pragma once

#include "device.h"
#include "team.h"

namespace bmatch::cuda {

// The unevaluated sum of two numbers that holds what rounding would lose (Knuth's TwoSum).
struct TwoSum {
  double high = 0.0, low = 0.0;
  __device__ void add(double x) {
    const double sum = high + x, part = sum - high;
    low += (high - (sum - part)) + (x - part);
    high = sum;
  }
  __device__ void join() {  // over the lanes of a warp
    for (int step = kWarp / 2; step > 0; step /= 2) {
      const double other_high = __shfl_xor_sync(kAllLanes, high, step);
      const double other_low = __shfl_xor_sync(kAllLanes, low, step);
      low += other_low;
      add(other_high);
    }
  }
  __device__ double value() const { return low == low ? high + low : high; }
};

// Sums of arrays [n].  `parts` [n] is of use in between, and read until the next barrier.
template <bool kWide, int kArrays>
__device__ void totals(Team<kWide>& team, int n, const double* const (&arrays)[kArrays],
                       double* parts, double (&sums)[kArrays]) {
  constexpr int kAhead = 8, kStretch = kAhead * kWarp;
  static_assert(2 * kArrays * 2 <= kStretch);  // two parts a stretch and array find room
  const int stretches = (n + kStretch - 1) / kStretch;
  const auto stretch = [&](const double* array, int k) {
    double x[kAhead];
#pragma unroll
    for (int e = 0; e < kAhead; ++e) {
      const int i = k * kStretch + e * kWarp + lane_id();
      x[e] = i < n ? peek_too(array + i) : 0.0;
    }
    TwoSum sum;
#pragma unroll
    for (int e = 0; e < kAhead; ++e) sum.add(x[e]);
    sum.join();
    return sum;
  };
  if (stretches == 1) {
    new_trip(arrays[0]);
    for (int a = 0; a < kArrays; ++a) sums[a] = stretch(arrays[a], 0).value();
    return;
  }
  for (int k = team.warp(); k < stretches; k += team.warps()) {
    new_trip(arrays[0]);
    for (int a = 0; a < kArrays; ++a) {
      const TwoSum sum = stretch(arrays[a], k);
      if (lane_id() == 0) {
        parts[2 * (k * kArrays + a)] = sum.high;
        parts[2 * (k * kArrays + a) + 1] = sum.low;
      }
    }
  }
  team.sync();
  for (int a = 0; a < kArrays; ++a) {
    TwoSum sum;
    for (int k = lane_id(); k < stretches; k += kWarp) {
      sum.add(peek(parts + 2 * (k * kArrays + a)));
      sum.low += peek_too(parts + 2 * (k * kArrays + a) + 1);
    }
    sum.join();
    sums[a] = sum.value();
  }
}

}  // namespace bmatch::cuda
