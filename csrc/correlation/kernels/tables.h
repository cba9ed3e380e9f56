// The tables that correlation_kernels() chooses from.
#pragma once

#include "correlation_kernels.h"

namespace bmatch {

#if defined(__x86_64__)
extern const CorrelationKernels kAvx512CorrelationKernels, kAvx2CorrelationKernels;
#endif
extern const CorrelationKernels kPortableCorrelationKernels;

}  // namespace bmatch
