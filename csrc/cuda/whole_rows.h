// Rows of the forest's trees relaxed whole, from the matrix instead of their lists.
#pragma once

#include "fours.h"
#include "labels.h"

namespace bmatch::cuda {

// Which rows, and what is made of their reduced costs in a round.
struct WholeRows {
  int count;  // of s.tree, from the first on: those with fences up to theta
  Word theta;
  const Word* labels;  // that the last round completed
  bool claims;         // who made the labels of the last round is recorded; else labels are lowered
  Word reach;          // up to it
  Lowering lower;
};

// A warp takes 32 rows of the trees and its lanes' four columns, whose prices and labels it reads
// once.
template <typename T>
__device__ BMATCH_OUT_OF_LINE void through_whole_rows(const Problem<T>& given, const State& s,
                                                      const WholeRows those, int warp, int warps) {
  const int round = those.lower.round, last = round - 1;
  const int* const stamp = s.stamp[last % 2];
  constexpr int kAhead = sizeof(T) == 4 ? 4 : 2;
  const Problem<T> p = given;  // in registers
  const int groups = (those.count + kWarp - 1) / kWarp;
  const int stretches = (p.cols + kFours - 1) / kFours;
  for (int item = warp; item < groups * stretches; item += warps) {
    const int k = item / stretches * kWarp + lane_id();
    const int from = item % stretches * kFours + lane_id() * kFour;
    int mine = kNobody;
    double my_base = 0.0, my_u = 0.0;
    bool whole = false;
    if (k < those.count) {
      mine = peek(s.tree + k);
      whole = peek(s.fence + mine) <= those.theta;
      my_base = peek_too(s.fence_base + mine);
      my_u = peek_too(s.u + mine);
    }
    unsigned left = __ballot_sync(kAllLanes, whole);
    if (left == 0) continue;
    double price[kFour];
    Word label[kFour];
#pragma unroll
    for (int e = 0; e < kFour; ++e) {
      const int j = from + e < p.cols ? from + e : 0;
      price[e] = peek_too(s.v + j);
      label[e] = peek_too(those.labels + j);
    }
    while (left != 0) {
      int lane[kAhead], first[kAhead];
      const T* rows[kAhead];
      T x[kAhead][kFour];
      new_trip();
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {  // the last again where fewer are left
        lane[a] = a == 0 || left != 0 ? __ffs(static_cast<int>(left)) - 1 : lane[a - 1];
        rows[a] = p.row(__shfl_sync(kAllLanes, mine, lane[a]));
        first[a] = from;
        left &= left - 1;
      }
      load_fours(p, rows, first, x);
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        if (a > 0 && lane[a] == lane[a - 1]) break;
        const int i = __shfl_sync(kAllLanes, mine, lane[a]);
        const double base = __shfl_sync(kAllLanes, my_base, lane[a]);
        const double u = __shfl_sync(kAllLanes, my_u, lane[a]);
#pragma unroll
        for (int e = 0; e < kFour; ++e) {
          const auto cost = static_cast<double>(cost_at(p, x[a][e], from + e));
          if (!(cost < infinity())) continue;
          const int j = from + e;
          const Word key = path_length(base, cost, price[e], u);
          if (!those.claims) {
            if (key <= those.reach && key < label[e])
              those.lower(s, j, peek(s.row_of_col + j), key, label[e]);
          } else if (key == label[e] && peek(stamp + j) == last) {
            atomicMin(s.pred + j, parent_word(last, i, j));
          }
        }
      }
    }
  }
}

}  // namespace bmatch::cuda
