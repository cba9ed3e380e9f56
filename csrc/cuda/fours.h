// The matrix itself, read four entries of a row at a time by each lane of a warp.
//
// Such reads are what a pass over the matrix waits for, so several are under way at once: all are
// asked for before the first is looked at, without a branch between them.
#pragma once

#include "problem.h"

namespace bmatch::cuda {

constexpr int kFour = 4, kFours = kWarp * kFour;  // entries that a lane and a warp read at once

// Asks for fours of the matrix, entries as they are stored, all before the first of them is waited
// for: those from column first[a] of rows[a] on.  In place of columns beyond the last stand others.
template <int kAhead, typename T>
__device__ __forceinline__ void load_fours(const Problem<T>& p, const T* const (&rows)[kAhead],
                                           const int (&first)[kAhead], T (&out)[kAhead][kFour]) {
  struct alignas(4 * sizeof(T)) Four {
    T x[kFour];
  };
#if !defined(__CUDACC__)
  for (int a = 0; a < kAhead; ++a) {
    if (first[a] < p.cols) host::count_bytes(sizeof(Four));
  }
#endif
  if (p.in_fours) {
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int at = first[a] < p.cols ? first[a] : 0;
      const Four four = *reinterpret_cast<const Four*>(rows[a] + at);
#pragma unroll
      for (int e = 0; e < kFour; ++e) out[a][e] = four.x[e];
    }
  } else {
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
#pragma unroll
      for (int e = 0; e < kFour; ++e) {
        const int j = first[a] + e;
        out[a][e] = rows[a][j < p.cols ? j : 0];
      }
    }
  }
}

// The cost of column j from what is stored there: infinite beyond the last column.
template <typename T>
__device__ __forceinline__ typename Stored<T>::Number cost_at(const Problem<T>& p, T stored,
                                                              int j) {
  using Number = typename Stored<T>::Number;
  return j < p.cols ? cost_of(Stored<T>::number(stored), p.bits) : static_cast<Number>(infinity());
}

// Calls f(j, cost) for the finite costs of row i, each in one lane of the warp.
template <typename T, typename F>
__device__ __forceinline__ void for_finite(const Problem<T>& p, int i, F f) {
  constexpr int kAhead = 4;
  const T* const row = p.row(i);
  for (int from = 0; from < p.cols; from += kAhead * kFours) {
    const T* rows[kAhead];
    int first[kAhead];
    T x[kAhead][kFour];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      rows[a] = row;
      first[a] = from + a * kFours + lane_id() * kFour;
    }
    load_fours(p, rows, first, x);
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
#pragma unroll
      for (int e = 0; e < kFour; ++e) {
        const auto cost = static_cast<double>(cost_at(p, x[a][e], first[a] + e));
        if (cost < infinity()) f(first[a] + e, cost);
      }
    }
  }
}

// Lowers the keys of columns to min_i (c_ij - u_i).  A warp takes its lanes' four columns and as
// many rows as make work for every warp.
template <typename T>
__device__ BMATCH_OUT_OF_LINE void lower_to_column_minima(const Problem<T>& given, const double* u,
                                                          int warp, int warps, Word* keys) {
  constexpr int kAhead = sizeof(T) < 8 ? 4 : 2;
  const Problem<T> p = given;  // in registers
  const int stretches = (p.cols + kFours - 1) / kFours;
  const int parts = warps > stretches ? warps / stretches : 1;
  const int rows_each = (p.rows + parts - 1) / parts;
  for (int item = warp; item < stretches * parts; item += warps) {
    const int from = item % stretches * kFours + lane_id() * kFour;
    const int begin = item / stretches * rows_each;
    const int end = begin + rows_each < p.rows ? begin + rows_each : p.rows;
    double best[kFour];
#pragma unroll
    for (int e = 0; e < kFour; ++e) best[e] = infinity();
    for (int next = begin; next < end; next += kAhead) {
      const T* rows[kAhead];
      int first[kAhead];
      double least[kAhead];
      T x[kAhead][kFour];
      new_trip();
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {  // the last again where fewer are left
        const int i = next + a < end ? next + a : end - 1;
        rows[a] = p.row(i);
        first[a] = from;
        least[a] = peek_too(u + i);
      }
      load_fours(p, rows, first, x);
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        const double of_row = least[a] < infinity() ? least[a] : 0.0;  // no cost of it is finite
#pragma unroll
        for (int e = 0; e < kFour; ++e) {
          const double reduced = static_cast<double>(cost_at(p, x[a][e], from + e)) - of_row;
          best[e] = reduced < best[e] ? reduced : best[e];
        }
      }
    }
#pragma unroll
    for (int e = 0; e < kFour; ++e) {
      if (best[e] < infinity()) atomicMin(keys + from + e, key_of(best[e]));
    }
  }
}

}  // namespace bmatch::cuda
