// Large arrays whose memory one solve leaves to the next of its thread.
//
// The first touch of a page can cost more than all that a solve writes into it: the lists of 4096
// rows take 500 pages, which is a sixth of the time of the whole solve if they are new.
#pragma once

#include <cstddef>
#include <new>
#include <utility>
#include <vector>

namespace bmatch {

// `bytes` of memory on a cache line's boundary: what the thread has kept, if that fits.
void* take_memory(std::size_t bytes);
// The thread keeps it, up to a limit.
void give_memory(void* memory, std::size_t bytes) noexcept;

template <typename T>
struct Reused {
  using value_type = T;
  Reused() = default;
  template <typename U>
  Reused(const Reused<U>&) {}
  T* allocate(std::size_t n) { return static_cast<T*>(take_memory(n * sizeof(T))); }
  void deallocate(T* p, std::size_t n) noexcept { give_memory(p, n * sizeof(T)); }
  template <typename U>
  void construct(U* p) {
    ::new (static_cast<void*>(p)) U;
  }  // numbers are not set to zero
  template <typename U, typename... Args>
  void construct(U* p, Args&&... args) {
    ::new (static_cast<void*>(p)) U(std::forward<Args>(args)...);
  }
  bool operator==(const Reused&) const { return true; }
  bool operator!=(const Reused&) const { return false; }
};

// New numbers are not initialised: their pages stay untouched until they are written.
template <typename T>
using ReusedVector = std::vector<T, Reused<T>>;

}  // namespace bmatch
