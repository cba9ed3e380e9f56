// The tables that row_kernels() chooses from.
#pragma once

#include "row_kernels.h"

namespace bmatch {

#if defined(__x86_64__)
extern const RowKernels kAvx512Kernels, kAvx2Kernels;
#endif
extern const RowKernels kPortableKernels;

}  // namespace bmatch
