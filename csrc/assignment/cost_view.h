// A matrix as the solver reads it: where it lies, and what counts as a cost.
//
// The solver minimises.  Maximisation and sign-marginalised matching are a change of what
// a stored number x costs (-x and -|x|), made while the number is loaded, so that neither a
// negated matrix nor a |C| copy ever exists.
#pragma once

#include <cmath>
#include <cstdint>

namespace bmatch {

enum class Sense { minimize, maximize, maximize_magnitude };

// The cost of a stored entry, exact in float64.
template <Sense sense>
inline double cost_of(double x) {
  if constexpr (sense == Sense::minimize) return x;
  if constexpr (sense == Sense::maximize) return -x;
  return -std::fabs(x);
}

// Strides count elements, not bytes, and may be negative or zero.
template <typename T>
struct CostView {
  const T* data;
  std::int64_t rows, cols;
  std::int64_t row_stride, col_stride;
  Sense sense;

  CostView transposed() const { return {data, cols, rows, col_stride, row_stride, sense}; }
};

}  // namespace bmatch
