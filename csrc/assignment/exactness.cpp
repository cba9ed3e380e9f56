#include "exactness.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace bmatch {

bool exact_on_a_grid(const RowScanner& costs, const Matching& matching) {
  const Index rows = costs.rows(), cols = costs.cols();
  double greatest = 0.0;
  for (Index j = 0; j < cols; ++j) greatest = std::max(greatest, std::fabs(matching.v[j]));
  int exponent;
  std::frexp(greatest * rows * 0x1p-48, &exponent);  // well above what rounding adds up to
  const double grid = std::ldexp(1.0, exponent);
  RowScanner::Scratch scratch = costs.scratch();
  const std::vector<std::uint8_t> nobody(padded(cols) / 8, 0);
  // What rows could gain at most: x - u as it is computed, and what rounding hides of both, each
  // at most 2^-53 of itself.
  double gain = 0.0;
  for (Index i = 0; i < rows; ++i) {
    if (!costs.on_grid(i, grid, scratch)) return false;
    const Index j = matching.col_of_row[i];
    const double x = costs.cost(i, j) - matching.v[j];
    const double u = costs.claim(i, matching.v.data(), nobody.data(), scratch).best;
    gain += (x - u) + 0x1p-52 * std::fabs(x);
  }
  return 2.0 * gain < grid;
}

}  // namespace bmatch
