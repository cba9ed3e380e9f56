// The row kernels in C++ that every machine can run.
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

namespace bmatch {
namespace {

#include "simd_portable.h"
//
#include "row_kernels_inl.h"
//
#include "factors_inl.h"

}  // namespace

constexpr RowKernels kPortableKernels = {row_scans<float>(), row_scans<double>(), list_best, nearer,
                                         small_kernels(),    widen_kernels()};
constexpr FactorKernels kPortableFactors = {factor_sums<float>(), factor_sums<double>()};

}  // namespace bmatch
