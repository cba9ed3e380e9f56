// The passes over tokens in AVX-512, compiled for it by pragma: all other headers are read before,
// so that no function shared with other files is compiled for this machine alone.
#if defined(__x86_64__)

#include <algorithm>
#include <cstdint>

#include "tables.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl")
#endif

namespace bmatch {
namespace {

#include "column_sums_inl.h"
#include "fold_inl.h"

}  // namespace

constexpr CorrelationKernels kAvx512CorrelationKernels = {
    {sum_rows<float>, sum_rows<double>, sum_rows<Bfloat16>},
    {fold_row<float>, fold_row<double>},
    &kFloatProduct,
    &kBfloat16Product};

}  // namespace bmatch

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
