// What is known of the processor: its widest vector instructions, and how it likes to be fed.
#pragma once

namespace bmatch {

enum class InstructionSet { portable, avx2, avx512 };

// BMATCH_ISA=portable or avx2 in the environment asks for less.
InstructionSet instruction_set();

// How many bytes a sweep over rows of memory does well to fetch ahead of itself.  Zen 5 gains most
// at 8 KB.  Zero on Zen 4 (and 3), whose own prefetching is faster if left alone within a row.
int fetch_distance();

}  // namespace bmatch
