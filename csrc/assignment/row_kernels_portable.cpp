// The row kernels in C++ that every machine can run.
#include <cmath>
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <utility>

#include "row_kernels.h"
#include "row_kernels_tables.h"

namespace bmatch {
namespace {

inline float next_below(float x) {
  std::int32_t bits;
  std::memcpy(&bits, &x, 4);
  bits = x == 0.0f ? static_cast<std::int32_t>(0x80000001u) : bits + (bits < 0 ? 1 : -1);
  std::memcpy(&x, &bits, 4);
  return x;
}

#include "simd_portable.h"
//
#include "row_kernels_impl.h"
//
#include "small_impl.h"

}  // namespace

const RowKernels kPortableKernels = {"portable", row_scans<float>(), row_scans<double>(), list_best,
    solve_small<float>, solve_small<double>};

}  // namespace bmatch
