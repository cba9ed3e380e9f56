// Finds races between CUDA threads: a happens-before detector for kernels that fibers run on a CPU
// (csrc/cuda/host).
//
// The kernels are compiled by g++ with -fsanitize=thread --param tsan-distinguish-volatile=1 and
// linked with race_hooks.cpp in place of the compiler's own library.  Every CUDA thread has a
// vector clock, and every word of watched memory remembers who touched it last.  Two accesses of
// which one writes must be ordered, or both be strong: atomic or volatile, which PTX calls relaxed.
//
// What orders accesses, and nothing else does:
// - The beginning and the end of a kernel: all.
// - __syncthreads, __syncwarp: what those who meet did before comes before what they do after.
// - A release and the acquire that reads what it wrote, or what other atomics made of that: all
//   that the one's thread did or had learnt of before, for the other's.  A fence before a strong
//   write is as good as a release, one after a strong read as an acquire, as C++ has it.
//
// Shuffles and ballots order nothing, though all lanes wait for one another there: they hand over
// registers, and PTX promises no order of memory for them, only for bar.warp.sync.  Nor does the
// order in which the fibers happened to run, so one interleaving tells of many.
//
// Also told: reads of memory that nobody has written in this solve, writes to a kernel's input, and
// threads that meet at different places.  Not seen: the scope of fences (all are the device's), the
// order of one thread's stores where no race comes of it, and what the GPU's compiler makes of it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace race {

enum class Memory { workspace, answer, input };

// Forgets all memory, and watches the launches that follow.
void begin_solve();
// Memory of the solve.  Nobody has written it, but for the input.
void watch(Memory kind, const void* from, std::size_t bytes);
// Ends the program at the first report, with exit code 4.
void stop_at_first();
// Whether nothing is told, and other threads are only let run before weak writes, as always.
void only_disturb(bool only);
// Prints what was found, a line each, where addresses are those of calls, the innermost first:
//   RACE|count|first access|second access|memory|threads|addresses of the first|of the second
//   UNWRITTEN|count|access|memory|thread|addresses
//   INPUT|count|access|memory|thread|addresses
//   DIVERGED|count|addresses of one|of another
void report();
bool found();

// What the compiler's calls become.
enum class Access : std::uint8_t { read, write, strong_read, strong_write, update };
enum class Order : std::uint8_t { relaxed, acquire, release };
void access(Access kind, const void* p, std::size_t bytes, const void* caller,
            Order order = Order::relaxed);
void fence();
void enter_function(const void* caller);
void leave_function();

}  // namespace race
