#include "sha256.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <stdexcept>

#include "instruction_set.h"
#include "kernels/sha256_kernels.h"

namespace bmatch {
namespace {

constexpr Sha256Kernel kNone = {1, nullptr};

#if defined(__x86_64__)
// Not every compiler's __builtin_cpu_supports knows it.
bool has_sha() {
  unsigned a, b, c, d;
  constexpr unsigned kSha = 1u << 29;
  return __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("ssse3") &&
         __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & kSha) != 0;
}
#endif

// With instructions for it two streams are as fast as 16 in AVX-512, of which few are to be had.
Sha256Kernel own_instructions() {
#if defined(__x86_64__)
  static const bool there = has_sha();
  if (there) return kShaSha256;
#endif
  return kNone;
}

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
  return kNone;
}

}  // namespace

int sha256_lanes() {
  const InstructionSet set = instruction_set();
  const bool own = set != InstructionSet::portable && own_instructions().blocks != nullptr;
  return (own ? own_instructions() : kernel_of(set)).lanes;
}

void sha256_blocks(int lanes, std::uint32_t* states, const unsigned char* const* data,
                   std::int64_t count) {
  const auto takes = [lanes](const Sha256Kernel& kernel) {
    return kernel.lanes == lanes && kernel.blocks != nullptr;
  };
  if (takes(own_instructions())) return own_instructions().blocks(states, data, count);
  for (const InstructionSet set : instruction_sets()) {
    const Sha256Kernel kernel = kernel_of(set);
    if (takes(kernel)) return kernel.blocks(states, data, count);
  }
  throw std::invalid_argument("no instruction set of this machine hashes so many streams at once");
}

}  // namespace bmatch
