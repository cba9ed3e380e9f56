// CUDA kernels on a CPU: what lets g++ compile and run the .cu files of this folder for tests.
//
// A fiber stands for each CUDA thread.  All runnable fibers of all blocks that are resident lie in
// one pool, and whoever waits (at __syncthreads, at a shuffle, in a spinning barrier) hands over
// to one drawn from it at random, as do some of those that touch memory other threads write, and
// some thread or warp always lags behind.  So a seed is an interleaving, and what holds for several
// seeds hardly depends on the order of threads.  Where every fiber waits, the barrier they wait at
// is wrong, and the run ends.
//
// Atomics and fences are the compiler's, so that a race detector that it instruments for
// (tests/native/race.h) sees them with their order; barriers are told to a Watcher.
//
// Only what the kernels here use is provided.  Shuffles and ballots are of whole warps.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y = 1, z = 1;
};
using cudaStream_t = void*;

namespace host {

constexpr int kWarpSize = 32;

// The device that is played: by default a small one, whose shared memory is enough for small
// problems and too little for others.
struct Device {
  unsigned resident_blocks = 3;
  std::size_t shared_bytes = 16384;
};
Device& device();

// Where a running thread is.
struct Place {
  dim3 thread{0}, block{0}, block_dim{0}, grid_dim{0};
  unsigned char* shared = nullptr;
};

Place& here();
void yield();        // lets others run
void maybe_yield();  // does so now and then
// A read that waits for others before it; `p` tells from where, null: from the second cache.
void count_trip(const void* p = nullptr);
void count_bytes(std::size_t bytes);  // of the matrix
void end_interval();                  // between two barriers of a team
void warp_barrier();
void block_barrier();
// Every lane's word, once all lanes of the warp have given theirs; valid until the next call but
// one.
const std::uint64_t* warp_exchange(std::uint64_t word);

struct Launch {
  unsigned grid, block;
  std::size_t shared_bytes;
  bool all_resident;  // cooperative: blocks may wait for one another
};

// Runs body() in every thread.  Exits with a message where threads wait for ever.
void run(const Launch& launch, const std::function<void()>& body);

// Which interleaving the next launches take, and what memory holds that nobody has written: numbers
// that are NaN and indices that are -1, or small numbers and large indices.
void seed(std::uint64_t value);
int poison();
// After so many turns of threads a launch counts as endless.
void limit(std::uint64_t turns);

// What launches would wait for on a device: in each interval between a team's barriers the thread
// that waits longest, by the weights; of several teams the one that takes longest.
struct Costs {
  std::uint64_t barriers = 0, far_trips = 0, near_trips = 0, collectives = 0, bytes = 0;
  double nanoseconds() const;  // but for barriers and bytes
};
constexpr double kFarTrip = 200.0, kNearTrip = 20.0, kCollective = 15.0;  // nanoseconds
Costs& costs();  // of the launches since it was last cleared

// cudaMemset to zero.
void clear(void* from, std::size_t bytes);

// Where threads wait for one another: a barrier orders memory, a shuffle or a ballot does not.
enum class Meeting { barrier, exchange };

// Who is told what happens, thread by thread; threads are numbered through a launch.
class Watcher {
 public:
  virtual ~Watcher() = default;
  virtual void begin_launch(unsigned threads) = 0;
  virtual void end_launch() = 0;
  virtual void begin_block(void* shared, std::size_t bytes) = 0;
  virtual void end_block(void* shared) = 0;
  // It runs from here on, on this stack.
  virtual void enter(unsigned thread, const void* stack, std::size_t bytes) = 0;
  virtual void arrive(Meeting meeting, const void* caller) = 0;  // the one that runs
  virtual void meet(Meeting meeting, const unsigned* threads, std::size_t count) = 0;
  virtual void clear(void* from, std::size_t bytes) = 0;  // between launches
};
void watch(Watcher* watcher);

template <typename T>
std::uint64_t to_word(T value) {
  static_assert(sizeof(T) <= 8);
  std::uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  return word;
}
template <typename T>
T from_word(std::uint64_t word) {
  T value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

inline float half_to_float(std::uint16_t half) {
  const int exponent = half >> 10 & 0x1f, fraction = half & 0x3ff;
  const float magnitude = exponent == 0x1f ? (fraction == 0 ? __builtin_inff() : __builtin_nanf(""))
                          : exponent == 0
                              ? std::ldexp(static_cast<float>(fraction), -24)
                              : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

}  // namespace host

#define threadIdx (host::here().thread)
#define blockIdx (host::here().block)
#define blockDim (host::here().block_dim)
#define gridDim (host::here().grid_dim)

inline void __syncthreads() { host::block_barrier(); }
inline void __syncwarp(unsigned = 0xffffffffu) { host::warp_barrier(); }
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __nanosleep(unsigned) { host::yield(); }

template <typename T>
T __shfl_sync(unsigned, T value, int lane) {
  return host::from_word<T>(host::warp_exchange(host::to_word(value))[lane]);
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  const int lane = static_cast<int>(threadIdx.x % host::kWarpSize);
  return host::from_word<T>(host::warp_exchange(host::to_word(value))[lane ^ mask]);
}
inline unsigned __ballot_sync(unsigned, bool vote) {
  const std::uint64_t* votes = host::warp_exchange(vote);
  unsigned bits = 0;
  for (int lane = 0; lane < host::kWarpSize; ++lane) {
    bits |= static_cast<unsigned>(votes[lane]) << lane;
  }
  return bits;
}
inline unsigned __reduce_min_sync(unsigned, unsigned value) {
  const std::uint64_t* values = host::warp_exchange(value);
  std::uint64_t least = values[0];
  for (int lane = 1; lane < host::kWarpSize; ++lane) {
    if (values[lane] < least) least = values[lane];
  }
  return static_cast<unsigned>(least);
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline long long __double_as_longlong(double x) {
  return host::from_word<long long>(host::to_word(x));
}
inline double __longlong_as_double(long long x) {
  return host::from_word<double>(host::to_word(x));
}
inline float __int_as_float(int x) { return host::from_word<float>(host::to_word(x)); }
inline int __float_as_int(float x) { return host::from_word<int>(host::to_word(x)); }

namespace host {

// Puts f(*p) in place of *p, as a device's atomics do.  Others may act before it, and before what
// the thread does next.
template <typename T, typename F>
T update(T* p, F f) {
  maybe_yield();
  T old;
  __atomic_load(p, &old, __ATOMIC_RELAXED);
  T now = f(old);
  __atomic_exchange(p, &now, &old, __ATOMIC_RELAXED);
  maybe_yield();
  return old;
}

// What the device's put, add_release and load_acquire are here.
template <typename T>
void put(T* p, T value) {
  maybe_yield();
  __atomic_store(p, &value, __ATOMIC_RELAXED);
  maybe_yield();
}
inline void add_release(unsigned* p, unsigned x) {
  maybe_yield();
  __atomic_fetch_add(p, x, __ATOMIC_RELEASE);
  maybe_yield();
}
inline unsigned load_acquire(const unsigned* p) {
  yield();  // whoever asks again and again waits for others
  return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

}  // namespace host

template <typename T>
T atomicMin(T* p, T value) {
  return host::update(p, [value](T old) { return value < old ? value : old; });
}
template <typename T>
T atomicMax(T* p, T value) {
  return host::update(p, [value](T old) { return value > old ? value : old; });
}
template <typename T>
T atomicAdd(T* p, T value) {
  return host::update(p, [value](T old) { return old + value; });
}
