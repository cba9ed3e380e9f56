// A product of one chunk of tokens folded into the sums of all: one pass over the larger.
#pragma once

#include <cstdint>

#include "threads.h"

namespace bmatch {

// comoment += products + left^T right, in double.
template <typename T>
struct Fold {
  double* comoment;   // d1 x d2
  const T* products;  // d1 x d2
  std::int64_t d1, d2;
  const double *left, *right;  // 2 x d1 and 2 x d2
};

void fold(const Fold<float>& task, Threads& threads);
void fold(const Fold<double>& task, Threads& threads);

}  // namespace bmatch
