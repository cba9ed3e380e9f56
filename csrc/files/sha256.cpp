#include "sha256.h"

#include <stdexcept>

#include "instruction_set.h"
#include "kernels/sha256_kernels.h"

namespace bmatch {
namespace {

Sha256Kernel kernel_of(InstructionSet set) {
#if defined(__x86_64__)
  switch (set) {
    case InstructionSet::avx512:
      return kAvx512Sha256;
    case InstructionSet::avx2:
      return kAvx2Sha256;
    case InstructionSet::portable:
      break;
  }
#else
  (void)set;
#endif
  return {1, nullptr};
}

}  // namespace

int sha256_lanes() { return kernel_of(instruction_set()).lanes; }

void sha256_blocks(int lanes, std::uint32_t* states, const unsigned char* const* data,
                   std::int64_t count) {
  for (const InstructionSet set : instruction_sets()) {
    const Sha256Kernel kernel = kernel_of(set);
    if (kernel.lanes == lanes && kernel.blocks != nullptr)
      return kernel.blocks(states, data, count);
  }
  throw std::invalid_argument("no instruction set of this machine hashes so many streams at once");
}

}  // namespace bmatch
