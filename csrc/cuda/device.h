// What the kernels share: keys that order numbers as integers, reads of memory that other threads
// write, launches.  nvcc compiles these files for a GPU, g++ for tests on a CPU (host/).
#pragma once

#include <cstdint>
#include <cuda_runtime.h>
#include <type_traits>

#include "assignment/rows/cost_view.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

// A function of its own: what is large and called from several places would be repeated at each.
#define BMATCH_OUT_OF_LINE __attribute__((noinline))

namespace bmatch::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kNobody = -1;

using Word = unsigned long long;  // what 64-bit atomics take
constexpr Word kTopBit = Word{1} << 63;
constexpr Word kUnreached = ~Word{0};  // above the key of any number

__device__ __forceinline__ double infinity() { return __longlong_as_double(0x7ff0000000000000LL); }
__device__ __forceinline__ double not_a_number() {
  return __longlong_as_double(0x7ff8000000000000LL);
}

// Keys are ordered as the numbers are; NaN is not asked for.
__device__ __forceinline__ Word key_of(double x) {
  const auto bits = static_cast<Word>(__double_as_longlong(x));
  return (bits & kTopBit) != 0 ? ~bits : bits | kTopBit;
}
__device__ __forceinline__ double number_of(Word key) {
  const Word bits = (key & kTopBit) != 0 ? key & ~kTopBit : ~key;
  return __longlong_as_double(static_cast<long long>(bits));
}

// Reads from here on wait for those before.  Trips to the second cache, or to memory, are what
// rounds take their time for; host/ counts them.
__device__ __forceinline__ void new_trip([[maybe_unused]] const void* to = nullptr) {
#if !defined(__CUDACC__)
  host::count_trip(to);
#endif
}

// A value that another thread may have written since the kernel began: past the first cache, which
// does not see what others write.  In the trip of the read before it: nothing is waited for
// between.
template <typename T>
__device__ __forceinline__ T peek_too(const T* p) {
#if defined(__CUDACC__)
  T out;
  __nv_atomic_load(const_cast<T*>(p), &out, __NV_ATOMIC_RELAXED, __NV_THREAD_SCOPE_DEVICE);
  return out;
#else
  return *const_cast<const volatile T*>(p);
#endif
}
// Likewise, in a new trip.
template <typename T>
__device__ __forceinline__ T peek(const T* p) {
  new_trip(p);
  return peek_too(p);
}

// Two neighbours at once, in the trip of the read before; `p` stands on 16 bytes.  Not for what
// this thread wrote since the last barrier.
template <typename T>
__device__ __forceinline__ void peek_pair_too(const T* p, T (&out)[2]) {
  static_assert(sizeof(T) == 8);
#if defined(__CUDACC__)
  long long x, y;
  asm volatile("ld.relaxed.gpu.v2.b64 {%0, %1}, [%2];" : "=l"(x), "=l"(y) : "l"(p));
  if constexpr (std::is_same_v<T, double>) {
    out[0] = __longlong_as_double(x);
    out[1] = __longlong_as_double(y);
  } else {
    out[0] = static_cast<T>(x);
    out[1] = static_cast<T>(y);
  }
#else
  out[0] = peek_too(p);
  out[1] = peek_too(p + 1);
#endif
}

// A value that others may peek at meanwhile; they find the old one or this one.
template <typename T>
__device__ __forceinline__ void put(T* p, T value) {
#if defined(__CUDACC__)
  __nv_atomic_store(p, &value, __NV_ATOMIC_RELAXED, __NV_THREAD_SCOPE_DEVICE);
#else
  host::put(p, value);
#endif
}

// A flag that any number of threads may raise.
__device__ __forceinline__ void raise(int* flag) { put(flag, 1); }

// Adds to a count so that whoever acquires it sees what this thread wrote and saw before.
__device__ __forceinline__ void add_release(unsigned* count, unsigned x) {
#if !defined(__CUDACC__)
  host::add_release(count, x);
#else
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(count)),
               "r"(x)
               : "memory");
#endif
}
__device__ __forceinline__ unsigned load_acquire(const unsigned* count) {
#if !defined(__CUDACC__)
  return host::load_acquire(count);
#else
  unsigned x;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
               : "=r"(x)
               : "l"(__cvta_generic_to_global(count))
               : "memory");
  return x;
#endif
}

// A block's dynamic shared memory.
__device__ __forceinline__ unsigned char* shared_memory() {
#if defined(__CUDACC__)
  extern __shared__ __align__(16) unsigned char memory[];
  return memory;
#else
  return host::here().shared;
#endif
}

// Entries as they are stored, and the numbers that arithmetic is done in: float for all that it
// holds exactly.
struct Half {
  std::uint16_t bits;
};
struct Bfloat16 {
  std::uint16_t bits;
};
template <typename T>
struct Stored {
  using Number = T;
  static __device__ __forceinline__ T number(T x) { return x; }
};
template <>
struct Stored<Bfloat16> {
  using Number = float;
  static __device__ __forceinline__ float number(Bfloat16 x) {
    return __int_as_float(static_cast<int>(static_cast<unsigned>(x.bits) << 16));
  }
};
template <>
struct Stored<Half> {
  using Number = float;
  static __device__ __forceinline__ float number(Half x) {
#if defined(__CUDACC__)
    __half_raw raw;
    raw.x = x.bits;
    return __half2float(__half(raw));
#else
    return host::half_to_float(x.bits);
#endif
  }
};

// cost = (stored & keep) ^ flip on the bits of the number: see assignment/cost_view.h.
template <typename Number>
__device__ __forceinline__ Number cost_of(Number x, CostBits<Number> b);
template <>
__device__ __forceinline__ float cost_of(float x, CostBits<float> b) {
  return __int_as_float(
      static_cast<int>((static_cast<unsigned>(__float_as_int(x)) & b.keep) ^ b.flip));
}
template <>
__device__ __forceinline__ double cost_of(double x, CostBits<double> b) {
  return __longlong_as_double(static_cast<long long>(
      (static_cast<std::uint64_t>(__double_as_longlong(x)) & b.keep) ^ b.flip));
}

__device__ __forceinline__ int lane_id() { return static_cast<int>(threadIdx.x % kWarp); }

template <typename T>
__device__ __forceinline__ T least_in_warp(T x) {
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, x, step);
    x = other < x ? other : x;
  }
  return x;
}
template <>
__device__ __forceinline__ Word least_in_warp(Word x) {
  const auto high = static_cast<unsigned>(x >> 32);
  const unsigned least_high = __reduce_min_sync(kAllLanes, high);
  const unsigned low = high == least_high ? static_cast<unsigned>(x) : ~0u;
  return Word{least_high} << 32 | __reduce_min_sync(kAllLanes, low);
}
template <typename T>
__device__ __forceinline__ T sum_in_warp(T x) {
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

}  // namespace bmatch::cuda
