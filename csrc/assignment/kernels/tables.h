// The tables that row_kernels() chooses from.
#pragma once

#include "factor_kernels.h"
#include "row_kernels.h"

namespace bmatch {

#if defined(__x86_64__)
extern const RowKernels kAvx512Kernels, kAvx2Kernels;
extern const FactorKernels kAvx512Factors, kAvx2Factors;
#endif
extern const RowKernels kPortableKernels;
extern const FactorKernels kPortableFactors;

}  // namespace bmatch
