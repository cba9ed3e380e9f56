// Whether an answer stands although its prices dwarf it: the rules of assignment/solver.h and
// assignment/exactness.h on the device.
#pragma once

#include "row_lists.h"

namespace bmatch::cuda {

// Whether rounding at the scale of the prices may outweigh the answer.
__device__ inline bool dwarfs(double greatest_price, double magnitudes, int rows) {
  return !(greatest_price * 0x1p-50 <= 1e-10 * magnitudes / rows);
}

// Whether row i, whose cost is `reduced` by its column's price and `u` at best, gains less than its
// share of a grid by any other assignment, and has all its costs on that grid.
template <typename T>
__device__ bool exact_on_a_grid(const Problem<T>& p, int i, double reduced, double u,
                                double greatest_price) {
  const auto bits = __double_as_longlong(greatest_price * p.rows * 0x1p-47);
  const double grid = __longlong_as_double(bits & 0x7ff0000000000000LL), far = 0x1p52 * grid;
  const double magnitude = reduced < 0.0 ? -reduced : reduced;
  bool exact = 2.0 * p.rows * ((reduced - u) + 0x1p-52 * magnitude) < grid;
  for_finite(p, i, [&](int, double cost) {
    const double near = cost > far ? far : cost < -far ? -far : cost;
    exact &= (near + far) - far == near && (near - far) + far == near;
  });
  return exact;
}

}  // namespace bmatch::cuda
