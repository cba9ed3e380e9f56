// The row kernels in AVX2, compiled for it by pragma: headers of the standard library are read
// before, so that no function shared with other files is compiled for this machine alone.
#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <tuple>
#include <type_traits>
#include <utility>

#include "assignment/policy.h"
#include "factor_kernels.h"
#include "float_order.h"
#include "instruction_set.h"
#include "row_kernels.h"
#include "tables.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,f16c,fma,bmi,bmi2,popcnt,lzcnt"))), \
                             apply_to = function)
#else
#pragma GCC target("avx2,f16c,fma,bmi,bmi2,popcnt,lzcnt")
#endif

namespace bmatch {
namespace {

#include "simd_avx2.h"
//
#include "row_kernels_inl.h"
//
#include "factors_inl.h"

}  // namespace

constexpr RowKernels kAvx2Kernels = {row_scans<float>(), row_scans<double>(), list_best, nearer,
                                     small_kernels(),    widen_kernels()};
constexpr FactorKernels kAvx2Factors = {factor_sums<float>(), factor_sums<double>()};

}  // namespace bmatch

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
