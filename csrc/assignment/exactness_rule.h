// When an answer is in doubt because its prices dwarf it, and how it can be proved all the same:
// the rules of exactness.h and of cuda/exactness.h, said once.
//
// Where costs are multiples of a grid, a power of two, so are the objectives of all assignments;
// one that no other can better by as much as a grid is optimal.  What others could gain at most is
// the sum of the rows' reduced costs, and what rounding hides of it is below the grid of
// exactness_grid().  The host adds up the rows' gains.  The device, whose rows are looked at by
// many teams at once, takes rows times the greatest, which asks for more and needs no sum.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define BMATCH_HOST_DEVICE __host__ __device__
#else
#define BMATCH_HOST_DEVICE
#endif

namespace bmatch {

// Whether rounding at the scale of the greatest |v_j| may outweigh an answer (solver.h) whose
// matched costs have this sum of magnitudes.
BMATCH_HOST_DEVICE inline bool prices_dwarf(double greatest_price, double magnitudes, int rows) {
  return !(greatest_price * 0x1p-50 <= 1e-10 * magnitudes / rows);
}

// The least power of two above what rounding adds up to over all rows, with much to spare: above
// 2^-48 of the greatest price times the rows.  Zero or infinite, with which nothing is proved,
// where twice that is no normal number.
BMATCH_HOST_DEVICE inline double exactness_grid(double greatest_price, int rows) {
  const double twice = greatest_price * rows * 0x1p-47;
  std::uint64_t bits;
  std::memcpy(&bits, &twice, sizeof bits);
  bits &= 0x7ff0000000000000;  // the power of two at or below it
  double grid;
  std::memcpy(&grid, &bits, sizeof grid);
  return grid;
}

}  // namespace bmatch
