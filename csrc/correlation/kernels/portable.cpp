// The passes over tokens in C++ that every machine can run.
#include <algorithm>
#include <cstdint>

#include "tables.h"

namespace bmatch {
namespace {

#include "column_sums_inl.h"
#include "fold_inl.h"

}  // namespace

constexpr CorrelationKernels kPortableCorrelationKernels = {
    {sum_rows<float>, sum_rows<double>, sum_rows<Bfloat16>},
    {fold_row<float>, fold_row<double>},
    nullptr,
    nullptr};

}  // namespace bmatch
