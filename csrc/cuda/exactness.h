// Whether an answer stands although its prices dwarf it, by assignment/exactness_rule.h.
#pragma once

#include "assignment/exactness_rule.h"
#include "row_lists.h"

namespace bmatch::cuda {

// Whether row i, whose cost is `reduced` by its column's price and `u` at best, gains less than its
// share of a grid by any other assignment, and has all its costs on that grid.
template <typename T>
__device__ BMATCH_OUT_OF_LINE bool exact_on_a_grid(const Problem<T>& p, int i, double reduced,
                                                   double u, double greatest_price) {
  const double grid = exactness_grid(greatest_price, p.rows), far = 0x1p52 * grid;
  const double magnitude = reduced < 0.0 ? -reduced : reduced;
  bool exact = 2.0 * p.rows * ((reduced - u) + 0x1p-52 * magnitude) < grid;
  for_finite(p, i, [&](int, double cost) {
    const double near = cost > far ? far : cost < -far ? -far : cost;
    exact &= (near + far) - far == near && (near - far) + far == near;
  });
  return exact;
}

}  // namespace bmatch::cuda
