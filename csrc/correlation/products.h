// Products of two streams over the same tokens, left^T right, in float32.
//
// Tokens are rows, so both operands are read down their columns.  Blocks of tokens are packed into
// panels that a kernel reads in order, a few rows of the answer in registers at a time (K. Goto and
// R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM Transactions on
// Mathematical Software 34, 2008).  Nothing else is copied.
//
// bfloat16 is multiplied as it is, two tokens an instruction: products of 8-bit significands are
// exact, and sums are float32.  Libraries round such a sum to bfloat16 again.
#pragma once

#include <cstdint>

#include "narrow_floats.h"
#include "threads.h"

namespace bmatch {

template <typename T>
struct Products {
  const T *left, *right;  // tokens x d1 and tokens x d2, at least one token
  std::int64_t tokens, d1, d2;
  std::int64_t left_stride, right_stride;  // numbers from token to token
  float* products;                         // d1 x d2, written
};

// Memory that packing float32 takes.
std::int64_t packed_bytes(std::int64_t tokens, std::int64_t d1, std::int64_t d2);

// Whether there is a kernel for it: with AVX-512, and for bfloat16 with its own instructions too.
template <typename T>
bool multiplies();

// Each number is a sum in one order, for any number of threads.  Throws std::logic_error where
// there is no kernel.
template <typename T>
void multiply(const Products<T>& task, Threads& threads);

}  // namespace bmatch
