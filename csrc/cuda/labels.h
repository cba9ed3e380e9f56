// Labels of the forest's columns: lengths of paths as keys, how they fall, who made them.
#pragma once

#include "problem.h"

namespace bmatch::cuda {

// Later rounds first, so that the latest fall of a label is the one that counts.
__device__ inline Word parent_word(int round, int row, int col) {
  const unsigned hash =
      (static_cast<unsigned>(row) * 0x9e3779b1u ^ static_cast<unsigned>(col) * 0x85ebca6bu) >> 24;
  return (Word{0xffffffu - static_cast<unsigned>(round)} << 40) | (Word{hash} << 32) |
         static_cast<unsigned>(row);
}
__device__ inline int parent_row(Word word) { return static_cast<int>(word & 0xffffffffu); }

// A column whose label fell, and its row or kNobody.
__device__ inline Word queue_word(int col, int row) {
  return Word{static_cast<unsigned>(row)} << 32 | static_cast<unsigned>(col);
}
__device__ inline int queued_col(Word word) { return static_cast<int>(word & 0xffffffffu); }
__device__ inline int queued_row(Word word) { return static_cast<int>(word >> 32); }

__device__ inline Word path_length(double base, double cost, double v, double u) {
  return key_of(base + ((cost - v) - u));
}

// How a round lowers labels.
struct Lowering {
  Word* labels;
  bool spare;  // more columns than rows
  int round;
  int* stamp;

  // Column j, whose row is `row`, can be reached over length `key`, which is below its label.  Who
  // is the first to go below it in this round queues the column.
  __device__ void operator()(const State& s, int j, int row, Word key, Word label) const {
    new_trip(labels);
    const Word before = atomicMin(labels + j, key);
    if (spare && row == kNobody) atomicMin(&s.control->nearest, key);
    if (before < label) return;
    stamp[j] = round;
    const int next = (round + 1) % kQueues;
    new_trip(s.control);
    s.queue[next][atomicAdd(&s.control->queued[next], 1)] = queue_word(j, row);
  }
};

}  // namespace bmatch::cuda
