#include "instruction_set.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <atomic>
#include <stdexcept>
#include <string>

namespace bmatch {
namespace {

#if defined(__x86_64__)
// Not every compiler's __builtin_cpu_supports knows it.
bool has_f16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

bool runs(InstructionSet set) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi2") && has_f16c();
  switch (set) {
    case InstructionSet::avx512:
      return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    case InstructionSet::avx2:
      return avx2;
    case InstructionSet::portable:
      break;
  }
#endif
  return set == InstructionSet::portable;
}

// Relaxed: whichever set a thread sees, its answers are the same.
std::atomic<InstructionSet>& in_use() {
  static std::atomic<InstructionSet> set{instruction_sets().front()};
  return set;
}

}  // namespace

std::vector<InstructionSet> instruction_sets() {
  std::vector<InstructionSet> sets;
  for (const auto set : {InstructionSet::avx512, InstructionSet::avx2, InstructionSet::portable}) {
    if (runs(set)) sets.push_back(set);
  }
  return sets;
}

const char* name_of(InstructionSet set) {
  switch (set) {
    case InstructionSet::avx512:
      return "avx512";
    case InstructionSet::avx2:
      return "avx2";
    case InstructionSet::portable:
      break;
  }
  return "portable";
}

InstructionSet instruction_set() { return in_use().load(std::memory_order_relaxed); }

void use(std::string_view name) {
  std::string names;
  for (const InstructionSet set : instruction_sets()) {
    if (name == name_of(set)) {
      in_use().store(set, std::memory_order_relaxed);
      return;
    }
    names += (names.empty() ? "" : ", ") + std::string(name_of(set));
  }
  throw std::invalid_argument("the instruction set must be one that this machine can run (" +
                              names + "), got '" + std::string(name) + "'");
}

bool has_bfloat16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
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
