#include "instruction_set.h"

#include <cstdlib>
#include <string_view>

namespace bmatch {
namespace {

InstructionSet choose() {
#if defined(__x86_64__)
  const char* asked = std::getenv("BMATCH_ISA");
  const std::string_view isa = asked == nullptr ? "" : asked;
  if (isa == "portable") return InstructionSet::portable;
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl");
  if (avx512 && isa != "avx2") return InstructionSet::avx512;
  if (avx2) return InstructionSet::avx2;
#endif
  return InstructionSet::portable;
}

}  // namespace

InstructionSet instruction_set() {
  static const InstructionSet chosen = choose();
  return chosen;
}

int fetch_distance() {
#if defined(__x86_64__)
  static const int chosen = __builtin_cpu_is("amdfam19h") ? 0 : 8192;
  return chosen;
#else
  return 0;
#endif
}

}  // namespace bmatch
