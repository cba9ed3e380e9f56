// Small kernels, each a sentence of the memory model of race.h.
// Usage: race_model NAME SEED.  Prints the lines of race::report().
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <cuda_runtime.h>

#include "cuda/device.h"
#include "cuda/team.h"
#include "race.h"

using namespace bmatch::cuda;

namespace {

constexpr unsigned kBlocks = 2, kThreads = 64;

struct Board {
  int unwritten;
  int data[kBlocks * kThreads];
  int word;
  unsigned flag;
};
Board board;
int input[4] = {1, 2, 3, 4};

bool is(unsigned block, unsigned thread) { return blockIdx.x == block && threadIdx.x == thread; }
void wait_for(unsigned count) {
  while (peek(&board.flag) < count) __nanosleep(20);
}
void acquire(unsigned count) {
  while (load_acquire(&board.flag) < count) {
  }
}
void grid_barrier() { Team<true>(&board.flag).sync(); }
// Nothing comes of what is read, but it is.
void use(int x) {
  if (x == 12345) std::abort();
}

struct Kernel {
  const char* name;
  void (*run)();
};
const Kernel kKernels[] = {
    {"release and acquire",
     [] {
       if (is(0, 0)) board.data[0] = 1, add_release(&board.flag, 1);
       if (is(1, 0)) acquire(1), use(board.data[0]);
     }},
    {"no release",
     [] {
       if (is(0, 0)) board.data[0] = 1, atomicAdd(&board.flag, 1u);
       if (is(1, 0)) acquire(1), use(board.data[0]);
     }},
    {"no acquire",
     [] {
       if (is(0, 0)) board.data[0] = 1, add_release(&board.flag, 1);
       if (is(1, 0)) wait_for(1), use(board.data[0]);
     }},
    {"two fences",
     [] {
       if (is(0, 0)) board.data[0] = 1, __threadfence(), atomicAdd(&board.flag, 1u);
       if (is(1, 0)) wait_for(1), __threadfence(), use(board.data[0]);
     }},
    {"no fence before the write",
     [] {
       if (is(0, 0)) board.data[0] = 1, atomicAdd(&board.flag, 1u);
       if (is(1, 0)) wait_for(1), __threadfence(), use(board.data[0]);
     }},
    {"no fence after the read",
     [] {
       if (is(0, 0)) board.data[0] = 1, __threadfence(), atomicAdd(&board.flag, 1u);
       if (is(1, 0)) wait_for(1), use(board.data[0]);
     }},
    {"fence before what is told",
     [] {
       if (is(0, 0)) __threadfence(), board.data[0] = 1, atomicAdd(&board.flag, 1u);
       if (is(1, 0)) wait_for(1), __threadfence(), use(board.data[0]);
     }},
    {"release of what a block wrote",
     [] {
       if (blockIdx.x == 0) board.data[threadIdx.x] = 1;
       __syncthreads();
       if (is(0, 0)) add_release(&board.flag, 1);
       if (is(1, 0)) acquire(1);
       __syncthreads();
       if (blockIdx.x == 1) use(board.data[(threadIdx.x + 7) % kThreads]);
     }},
    {"release without the block",
     [] {
       if (blockIdx.x == 0) board.data[threadIdx.x] = 1;
       if (is(0, 0)) add_release(&board.flag, 1);
       if (is(1, 0)) acquire(1);
       __syncthreads();
       if (blockIdx.x == 1) use(board.data[(threadIdx.x + 7) % kThreads]);
     }},
    {"release handed on by an atomic",
     [] {
       if (is(0, 0)) board.data[0] = 1, add_release(&board.flag, 1);
       if (is(0, 32)) wait_for(1), atomicAdd(&board.flag, 1u);
       if (is(1, 0)) wait_for(2), acquire(2), use(board.data[0]);
     }},
    {"release hidden by a store",
     [] {
       if (is(0, 0)) board.data[0] = 1, add_release(&board.flag, 1);
       if (is(0, 32)) wait_for(1), put(&board.flag, 2u);
       if (is(1, 0)) wait_for(2), acquire(2), use(board.data[0]);
     }},
    {"what the atomic's thread wrote",
     [] {
       if (is(0, 0)) add_release(&board.flag, 1);
       if (is(0, 32)) wait_for(1), board.data[0] = 1, atomicAdd(&board.flag, 1u);
       if (is(1, 0)) wait_for(2), acquire(2), use(board.data[0]);
     }},
    {"syncwarp",
     [] {
       if (is(0, 3)) board.data[0] = 1;
       if (blockIdx.x == 0 && threadIdx.x < 32) __syncwarp();
       if (is(0, 5)) use(board.data[0]);
     }},
    {"syncwarp of another warp",
     [] {
       if (is(0, 3)) board.data[0] = 1;
       __syncwarp();
       if (is(0, 35)) use(board.data[0]);
     }},
    {"shuffle",
     [] {
       if (is(0, 3)) board.data[0] = 1;
       use(__shfl_sync(kAllLanes, 1, 3));
       if (is(0, 5)) use(board.data[0]);
     }},
    {"ballot",
     [] {
       if (is(0, 3)) board.data[0] = 1;
       use(static_cast<int>(__ballot_sync(kAllLanes, true)));
       if (is(0, 5)) use(board.data[0]);
     }},
    {"syncthreads",
     [] {
       if (is(0, 3)) board.data[0] = 1;
       __syncthreads();
       if (is(0, 35)) use(board.data[0]);
     }},
    {"syncthreads of another block",
     [] {
       if (is(0, 3)) board.data[0] = 1;
       __syncthreads();
       if (is(1, 35)) use(board.data[0]);
     }},
    {"barrier of the grid",
     [] {
       if (is(0, 3)) board.data[0] = 1;
       grid_barrier();
       if (is(1, 35)) use(board.data[0]);
     }},
    {"strong against strong",
     [] {
       atomicAdd(&board.word, 1);
       use(peek(&board.word));
       put(&board.word, 1);
       atomicMin(&board.word, 0);
     }},
    {"weak write against volatile read",
     [] {
       if (is(0, 0)) board.word = 1;
       if (is(1, 0)) use(peek(&board.word));
     }},
    {"weak write against atomic",
     [] {
       if (is(0, 0)) board.word = 1;
       if (is(1, 0)) atomicAdd(&board.word, 1);
     }},
    {"weak read against atomic",
     [] {
       if (is(0, 0)) use(board.word);
       if (is(1, 0)) atomicAdd(&board.word, 1);
     }},
    {"weak read against volatile write",
     [] {
       if (is(0, 0)) use(board.word);
       if (is(1, 0)) put(&board.word, 1);
     }},
    {"the same write of two",
     [] {
       if (threadIdx.x == 0) board.word = 1;
     }},
    {"many readers", [] { use(board.word); }},
    {"many readers, then a writer",
     [] {
       use(board.word);
       grid_barrier();
       if (is(1, 9)) board.word = 1;
     }},
    {"a writer among many readers",
     [] {
       use(board.word);
       __syncthreads();
       if (is(1, 9)) board.word = 1;
     }},
    {"neighbours", [] { board.data[blockIdx.x * kThreads + threadIdx.x] = 1; }},
    {"halves of words",
     [] {
       auto* const halves = reinterpret_cast<std::uint16_t*>(board.data);
       halves[blockIdx.x * kThreads + threadIdx.x] = 1;
     }},
    {"the same half of a word",
     [] {
       if (threadIdx.x == 0) reinterpret_cast<std::uint16_t*>(board.data)[1] = 1;
     }},
    {"a word and its half",
     [] {
       if (is(0, 0)) reinterpret_cast<std::uint16_t*>(board.data)[1] = 1;
       if (is(1, 0)) board.data[0] = 1;
     }},
    {"half of a double",
     [] {
       if (is(0, 0)) board.data[1] = 1;
       if (is(1, 0)) {
         double both = 1.0;
         std::memcpy(board.data, &both, sizeof both);
       }
     }},
    {"shared memory of two blocks",
     [] {
       if (threadIdx.x == 0) *shared_memory() = 1;
     }},
    {"unwritten shared memory", [] { use(*shared_memory()); }},
    {"unwritten",
     [] {
       if (is(0, 0)) use(board.unwritten);
     }},
    {"written input",
     [] {
       if (is(0, 0)) input[1] = 7;
     }},
    {"meeting at two places",
     [] {
       if (threadIdx.x % 32 < 16) {
         __syncwarp();
         use(1);
       } else {
         __syncwarp();
         use(2);
       }
     }},
};

}  // namespace

int main(int, char** argv) {
  for (const Kernel& kernel : kKernels) {
    if (std::strcmp(kernel.name, argv[1]) != 0) continue;
    host::seed(std::strtoull(argv[2], nullptr, 10));
    race::begin_solve();
    race::watch(race::Memory::workspace, &board, sizeof board);
    race::watch(race::Memory::input, input, sizeof input);
    host::clear(board.data, sizeof board - offsetof(Board, data));
    host::run({kBlocks, kThreads, 64, true}, kernel.run);
    // All that a kernel did comes before the next.
    host::run({kBlocks, kThreads, 64, true}, [] {
      if (is(1, 5)) board.data[0] = board.word = 1;
    });
    race::report();
    return 0;
  }
  return 2;
}
