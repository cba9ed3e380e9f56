// The scheduler behind cuda_runtime.h: one stack a CUDA thread, one runs at a time.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "cuda_runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define BMATCH_ASAN 1
#else
#define BMATCH_ASAN 0
#endif

namespace host {
namespace {

// Saves what a function keeps for its caller, and goes on where `to` was left.  (glibc's
// swapcontext asks the kernel for the signal mask each time, which takes ten times as long.)
extern "C" void bmatch_switch_stack(void** from, void* to);
asm(R"(
.text
.globl bmatch_switch_stack
bmatch_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

constexpr std::size_t kStack = BMATCH_ASAN ? 256 * 1024 : 64 * 1024;

struct Fiber;

struct Warp {
  std::uint64_t words[2][kWarpSize] = {};
  std::vector<Fiber*> waiting;
  int live = 0;
};

struct Block {
  std::vector<Fiber*> waiting;
  std::unique_ptr<unsigned char[]> shared;
  int live = 0;
};

struct Fiber {
  void* stack_pointer = nullptr;
  std::unique_ptr<char[]> stack;
  Place place;
  unsigned number = 0;  // in the launch
  Block* block;
  Warp* warp;
  unsigned exchanges = 0;
  Costs path;  // since the last barrier of its team
  std::size_t intervals = 0;
  void* fake_stack = nullptr;
};

std::mt19937_64 generator;
void* scheduler = nullptr;
#if BMATCH_ASAN
void* scheduler_fake = nullptr;
const void* scheduler_stack = nullptr;
std::size_t scheduler_size = 0;
#endif
Fiber* running = nullptr;
Fiber* finished = nullptr;
std::vector<Fiber*> pool;  // those that can go on
const std::function<void()>* entry = nullptr;
Watcher* watcher = nullptr;
int unwritten = 0xff;  // what memory holds that nobody has written

// One thread, or one warp, that lags behind all others for a while: a barrier that is missing is
// hardly missed where all run at the same pace.
struct Laggard {
  const Fiber* thread = nullptr;
  const Warp* warp = nullptr;
  bool is(const Fiber* fiber) const { return fiber == thread || fiber->warp == warp; }
};
Laggard laggard;

constexpr std::uint64_t kIdle = 1 << 22;   // turns in which all that run only spin
constexpr std::uint64_t kReads = 1 << 26;  // reads in one turn of a thread
Device played;
Costs spent;
std::vector<std::vector<Costs>> paths;  // of the launch: [teams][intervals]
bool teams_are_blocks = false;
std::size_t shared_size = 0;

std::uint64_t idle = 0, reads = 0, most_turns = ~std::uint64_t{0};

[[noreturn]] void give_up(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::exit(3);
}

// To the scheduler, which draws the next.
void leave(bool for_good = false) {
  Fiber* const self = running;
#if BMATCH_ASAN
  __sanitizer_start_switch_fiber(for_good ? nullptr : &self->fake_stack, scheduler_stack,
                                 scheduler_size);
#endif
  if (for_good) finished = self;
  bmatch_switch_stack(&self->stack_pointer, scheduler);
#if BMATCH_ASAN
  __sanitizer_finish_switch_fiber(self->fake_stack, nullptr, nullptr);
#endif
}

void release(std::vector<Fiber*>& waiting, Meeting meeting) {
  if (watcher != nullptr) {
    static std::vector<unsigned> threads;
    threads.clear();
    for (const Fiber* fiber : waiting) threads.push_back(fiber->number);
    watcher->meet(meeting, threads.data(), threads.size());
  }
  pool.insert(pool.end(), waiting.begin(), waiting.end());
  waiting.clear();
}

// Waits until `live` threads are here.
void gather(std::vector<Fiber*>& waiting, int live, Meeting meeting, const void* caller) {
  idle = 0;
  if (watcher != nullptr) watcher->arrive(meeting, caller);
  waiting.push_back(running);
  if (static_cast<int>(waiting.size()) == live) release(waiting, meeting);
  leave();
}

void start() {
#if BMATCH_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size);
#endif
  (*entry)();
  end_interval();
  leave(true);
}

void enter(Fiber* fiber) {
  running = fiber;
  if (watcher != nullptr) watcher->enter(fiber->number, fiber->stack.get(), kStack);
#if BMATCH_ASAN
  __sanitizer_start_switch_fiber(&scheduler_fake, fiber->stack.get(), kStack);
#endif
  bmatch_switch_stack(&scheduler, fiber->stack_pointer);
#if BMATCH_ASAN
  __sanitizer_finish_switch_fiber(scheduler_fake, nullptr, nullptr);
#endif
}

// Which of the pool goes on.
std::size_t draw(const std::vector<Fiber>& fibers) {
  if (generator() % 4096 == 0) {
    const Fiber& chosen = fibers[generator() % fibers.size()];
    laggard = generator() % 2 == 0 ? Laggard{&chosen, nullptr} : Laggard{nullptr, chosen.warp};
  }
  std::size_t drawn = 0;
  for (int k = 0; k < 16; ++k) {
    drawn = generator() % pool.size();
    if (!laggard.is(pool[drawn])) break;
  }
  return drawn;
}

void run_blocks(const Launch& launch, unsigned first, unsigned count) {
  const unsigned warps = (launch.block + kWarpSize - 1) / kWarpSize;
  std::vector<Block> blocks(count);
  std::vector<Warp> all_warps(std::size_t{count} * warps);
  std::vector<Fiber> fibers(std::size_t{count} * launch.block);
  for (unsigned b = 0; b < count; ++b) {
    // Shared memory holds what was there before.
    blocks[b].shared.reset(new unsigned char[launch.shared_bytes]);
    std::memset(blocks[b].shared.get(), unwritten, launch.shared_bytes);
    if (watcher != nullptr) watcher->begin_block(blocks[b].shared.get(), launch.shared_bytes);
    for (unsigned t = 0; t < launch.block; ++t) {
      Fiber& fiber = fibers[std::size_t{b} * launch.block + t];
      fiber.block = &blocks[b];
      fiber.warp = &all_warps[std::size_t{b} * warps + t / kWarpSize];
      fiber.number = (first + b) * launch.block + t;
      ++fiber.block->live;
      ++fiber.warp->live;
      fiber.place.thread.x = t;
      fiber.place.block.x = first + b;
      fiber.place.block_dim.x = launch.block;
      fiber.place.grid_dim.x = launch.grid;
      fiber.place.shared = blocks[b].shared.get();
      fiber.stack.reset(new char[kStack]);
      // As if it had been left just before the first instruction of start().
      void** top = reinterpret_cast<void**>(
          (reinterpret_cast<std::uintptr_t>(fiber.stack.get()) + kStack) / 16 * 16);
      *--top = nullptr;  // start() has no caller
      *--top = reinterpret_cast<void*>(start);
      top -= 6;  // registers
      fiber.stack_pointer = top;
      pool.push_back(&fiber);
    }
  }
  laggard = {};
  std::size_t left = fibers.size();
  for (std::uint64_t turns = 0; left > 0; ++turns) {
    if (pool.empty()) give_up("deadlock: threads wait at barriers that others never reach");
    if (++idle > kIdle) give_up("deadlock: threads spin for what never comes");
    if (turns > most_turns) give_up("threads go on and on");
    const std::size_t drawn = draw(fibers);
    Fiber* const fiber = pool[drawn];
    pool[drawn] = pool.back();
    pool.pop_back();
    reads = 0;
    enter(fiber);
    if (finished != nullptr) {
      --left;
      // The barriers of those that are left do not wait for this one.
      Block& block = *finished->block;
      if (--block.live > 0 && static_cast<int>(block.waiting.size()) == block.live) {
        release(block.waiting, Meeting::barrier);
      }
      finished = nullptr;
    }
  }
  if (watcher != nullptr) {
    for (const Block& block : blocks) watcher->end_block(block.shared.get());
  }
}

}  // namespace

Place& here() { return running->place; }

void yield() {
  pool.push_back(running);
  leave();
}

void maybe_yield() {
  if (generator() % 8 == 0) yield();
}

void count_trip(const void* p) {
  if (++reads > kReads) give_up("a thread goes on and on");
  const auto* const byte = static_cast<const unsigned char*>(p);
  const unsigned char* const shared = running->place.shared;
  const bool near = byte >= shared && byte < shared + shared_size;
  ++(near ? running->path.near_trips : running->path.far_trips);
}

void count_bytes(std::size_t bytes) { spent.bytes += bytes; }

void end_interval() {
  auto& team = paths[teams_are_blocks ? running->place.block.x : 0];
  if (team.size() <= running->intervals) team.resize(running->intervals + 1);
  Costs& longest = team[running->intervals++];
  if (running->path.nanoseconds() > longest.nanoseconds()) longest = running->path;
  running->path = {};
}

double Costs::nanoseconds() const {
  return kFarTrip * static_cast<double>(far_trips) + kNearTrip * static_cast<double>(near_trips) +
         kCollective * static_cast<double>(collectives);
}

Device& device() { return played; }
Costs& costs() { return spent; }

// Of the call that waits, in the kernel's code.
#define BMATCH_CALLER __builtin_return_address(0)

void warp_barrier() {
  Warp& warp = *running->warp;
  ++running->path.collectives;
  gather(warp.waiting, warp.live, Meeting::barrier, BMATCH_CALLER);
}

void block_barrier() {
  Block& block = *running->block;
  gather(block.waiting, block.live, Meeting::barrier, BMATCH_CALLER);
}

const std::uint64_t* warp_exchange(std::uint64_t word) {
  Fiber* const self = running;
  ++self->path.collectives;
  std::uint64_t* const words = self->warp->words[self->exchanges++ % 2];
  words[self->place.thread.x % kWarpSize] = word;
  gather(self->warp->waiting, self->warp->live, Meeting::exchange, BMATCH_CALLER);
  return words;
}

void run(const Launch& launch, const std::function<void()>& body) {
  entry = &body;
  if (watcher != nullptr) watcher->begin_launch(launch.grid * launch.block);
  teams_are_blocks = !launch.all_resident;
  shared_size = launch.shared_bytes;
  paths.assign(teams_are_blocks ? launch.grid : 1, {});
  // Blocks that need not be resident at once may be, or may run one after another.
  if (launch.all_resident || (launch.grid <= played.resident_blocks && generator() % 2 == 0)) {
    run_blocks(launch, 0, launch.grid);
  } else {
    for (unsigned b = 0; b < launch.grid; ++b) run_blocks(launch, b, 1);
  }
  if (watcher != nullptr) watcher->end_launch();
  Costs longest;
  for (const auto& team : paths) {
    Costs all;
    for (const Costs& interval : team) {
      all.far_trips += interval.far_trips;
      all.near_trips += interval.near_trips;
      all.collectives += interval.collectives;
    }
    all.barriers = team.size() - 1;
    if (all.nanoseconds() >= longest.nanoseconds()) longest = all;
  }
  spent.barriers += longest.barriers;
  spent.far_trips += longest.far_trips;
  spent.near_trips += longest.near_trips;
  spent.collectives += longest.collectives;
}

void seed(std::uint64_t value) {
  generator.seed(value);
  unwritten = value % 2 == 0 ? 0x3f : 0xff;
}
int poison() { return unwritten; }
void limit(std::uint64_t turns) { most_turns = turns; }
void watch(Watcher* w) { watcher = w; }

void clear(void* from, std::size_t bytes) {
  if (watcher != nullptr) watcher->clear(from, bytes);
  std::memset(from, 0, bytes);
}

}  // namespace host
