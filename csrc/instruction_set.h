// The instruction sets that kernels are compiled for, and the one in use; like simdjson's list of
// implementations, it can be set by name in process.
//
// Sets give the same answers to the last bit, so that another can be set at any time, even while a
// solve runs.  The one difference: products of correlations are bmatch's own with AVX-512 alone.
#pragma once

#include <string_view>
#include <vector>

namespace bmatch {

enum class InstructionSet { avx512, avx2, portable };  // best first

// Those that this machine can run, best first.
std::vector<InstructionSet> instruction_sets();

const char* name_of(InstructionSet set);

// The one in use: at first the best.
InstructionSet instruction_set();

// Takes another, in all threads.  Throws std::invalid_argument, which says what there is, if this
// machine can run none of that name.
void use(std::string_view name);

// Whether AVX-512 here includes its instructions for bfloat16.
bool has_bfloat16();

// How many bytes a sweep over rows of memory does well to fetch ahead of itself.  Zen 5 gains most
// at 8 KB.  Zero on Zen 4 (and 3), whose own prefetching is faster if left alone within a row.
int fetch_distance();

}  // namespace bmatch
