// The passes over tokens in AVX2, compiled for it by pragma: all other headers are read before, so
// that no function shared with other files is compiled for this machine alone.  AVX-512 has
// products beside them.
#if defined(__x86_64__)

#include <algorithm>
#include <cstdint>

#include "tables.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif

namespace bmatch {
namespace {

#include "column_sums_inl.h"
#include "fold_inl.h"

}  // namespace

constexpr CorrelationKernels kAvx2CorrelationKernels = {
    {sum_rows<float>, sum_rows<double>, sum_rows<Bfloat16>},
    {fold_row<float>, fold_row<double>},
    nullptr,
    nullptr};

// Sums and folds wait for memory more than for arithmetic: vectors of 512 bits took 0.7 to 1.2 of
// the time of these on Zen 4, more where rows are short or unshifted, so these are kept.
constexpr CorrelationKernels kAvx512CorrelationKernels = {kAvx2CorrelationKernels.sum_rows,
                                                          kAvx2CorrelationKernels.fold_row,
                                                          &kFloatProduct, &kBfloat16Product};

}  // namespace bmatch

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
