#include "correlation_kernels.h"

#include "tables.h"

namespace bmatch {

const CorrelationKernels& correlation_kernels() {
#if defined(__x86_64__)
  switch (instruction_set()) {
    case InstructionSet::avx512:
      return kAvx512CorrelationKernels;
    case InstructionSet::avx2:
      return kAvx2CorrelationKernels;
    case InstructionSet::portable:
      break;
  }
#endif
  return kPortableCorrelationKernels;
}

}  // namespace bmatch
