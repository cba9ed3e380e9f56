#include "row_kernels.h"

#include <cstdlib>
#include <string_view>

#include "row_kernels_tables.h"

namespace bmatch {
namespace {

const RowKernels& choose() {
#if defined(__x86_64__)
  const char* asked = std::getenv("BMATCH_ISA");
  const std::string_view isa = asked == nullptr ? "" : asked;
  if (isa == "portable") return kPortableKernels;
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl");
  if (avx512 && isa != "avx2") return kAvx512Kernels;
  if (avx2) return kAvx2Kernels;
#endif
  return kPortableKernels;
}

}  // namespace

const RowKernels& row_kernels() {
  static const RowKernels& chosen = choose();
  return chosen;
}

}  // namespace bmatch
