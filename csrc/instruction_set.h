// Which vector instructions are used: the widest that the processor has.
#pragma once

namespace bmatch {

enum class InstructionSet { portable, avx2, avx512 };

// BMATCH_ISA=portable or avx2 in the environment asks for less.
InstructionSet instruction_set();

}  // namespace bmatch
