// Costs from factors, in the same bits whichever rows and columns are computed together.
//
// A cost is a sum over the terms of two rows of factors, in float64, one term after another from
// the first to the last; columns lie across the lanes of a vector, rows and vectors side by side in
// registers, and nothing is ever added across them.  So neither the block, the lane, the
// instruction set nor the thread in which a cost is computed shows.
//
//   products   sum += x y.  Of float32 factors x y is exact in float64, and a fused step is the
//              same as two.  Of float64 ones it is rounded first, then added: no step is fused.
//   distances  d = x - y, sum += d d, each rounded.
//
// What is made of the sum: the cosine is sum * (a b), where a and b are the inverse norms of the
// two rows, or 0 for a row of zeros; the Euclidean distance is its root; a magnitude loses its
// sign. Each of these is rounded as IEEE 754 has it, and symmetric in the two sides: columns as
// rows give the same bits.
#pragma once

#include <cstdint>

#include "assignment/matching.h"

namespace bmatch {

enum class FactorCost { dot, abs_dot, cosine, abs_cosine, sqeuclidean, euclidean };

constexpr bool is_distance(FactorCost cost) {
  return cost == FactorCost::sqeuclidean || cost == FactorCost::euclidean;
}
constexpr bool is_cosine(FactorCost cost) {
  return cost == FactorCost::cosine || cost == FactorCost::abs_cosine;
}
constexpr bool is_magnitude(FactorCost cost) {
  return cost == FactorCost::abs_dot || cost == FactorCost::abs_cosine;
}

// Columns whose factors lie side by side, term by term.
constexpr Index kPanel = 16;

// Some rows, some columns.
template <typename T>
struct FactorBlock {
  FactorCost cost;
  Index terms;
  const double* x;        // [terms, width]: the rows' factors, term by term
  const double* x_scale;  // [width], inverse norms of cosines
  int count;              // of rows whose costs are wanted
  int width;              // of rows in x: 1, or the kernels' `rows`
  const T* panels;        // [panels, terms, kPanel]: the columns' factors, zero behind the last
  const double* y_scale;  // [padded cols], likewise
  Index first, end;       // columns from `first`, a multiple of kPanel, to `end`
  Index origin;           // the column whose cost goes to
  double* const* out;     // [count]
};

template <typename T>
struct FactorSums {
  int rows;  // that are computed together
  void (*block)(const FactorBlock<T>& block);
};

struct FactorKernels {
  FactorSums<float> f32;
  FactorSums<double> f64;

  template <typename T>
  const FactorSums<T>& sums() const {
    if constexpr (sizeof(T) == 4)
      return f32;
    else
      return f64;
  }
};

// The table of the instruction set in use (instruction_set.h).
const FactorKernels& factor_kernels();

}  // namespace bmatch
