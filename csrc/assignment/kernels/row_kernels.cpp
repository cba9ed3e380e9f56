#include "row_kernels.h"

#include "instruction_set.h"
#include "tables.h"

namespace bmatch {

const RowKernels& row_kernels() {
#if defined(__x86_64__)
  switch (instruction_set()) {
    case InstructionSet::avx512:
      return kAvx512Kernels;
    case InstructionSet::avx2:
      return kAvx2Kernels;
    case InstructionSet::portable:
      break;
  }
#endif
  return kPortableKernels;
}

const FactorKernels& factor_kernels() {
#if defined(__x86_64__)
  switch (instruction_set()) {
    case InstructionSet::avx512:
      return kAvx512Factors;
    case InstructionSet::avx2:
      return kAvx2Factors;
    case InstructionSet::portable:
      break;
  }
#endif
  return kPortableFactors;
}

}  // namespace bmatch
