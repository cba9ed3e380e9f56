// Vector clocks, and what a piece of memory remembers of accesses to it.
//
// Most memory is touched by one thread, or by threads one after the other: then the last access of
// a kind says all (FastTrack: C. Flanagan, S. N. Freund, PLDI 2009).  Only where unordered threads
// read or update the same memory is the last of each kept.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace race {

using Time = std::uint32_t;

constexpr std::uint16_t kNobody = 0xffff, kMany = 0xfffe;

// An access: when, by whom, and where in the code.
struct Epoch {
  Time time = 0;
  std::uint16_t thread = kNobody;
  std::uint16_t stack = 0;  // of calls
  std::uint32_t pc = 0;     // programs that are not position-independent lie below 4 GB
};

// Arrays of as many times, or epochs, as there are threads; numbered from 1, used again when freed.
template <typename T>
class Pool {
 public:
  void clear(std::size_t threads) {
    width_ = threads;
    memory_.assign(threads, T{});
    free_.clear();
  }
  std::uint32_t take() {
    if (!free_.empty()) {
      const std::uint32_t k = free_.back();
      free_.pop_back();
      std::fill_n((*this)[k], width_, T{});
      return k;
    }
    memory_.resize(memory_.size() + width_);
    return static_cast<std::uint32_t>(memory_.size() / width_ - 1);
  }
  void give_back(std::uint32_t k) { free_.push_back(k); }
  T* operator[](std::uint32_t k) { return memory_.data() + k * width_; }
  std::size_t width() const { return width_; }

 private:
  std::size_t width_ = 1;
  std::vector<T> memory_;
  std::vector<std::uint32_t> free_;
};

inline void join(Time* into, const Time* from, std::size_t n) {
  for (std::size_t k = 0; k < n; ++k) into[k] = std::max(into[k], from[k]);
}

// Accesses of one kind: the last, or the last of each thread.
class Marks {
 public:
  bool empty() const { return one_.thread == kNobody; }
  void clear(Pool<Epoch>& pool) {
    if (one_.thread == kMany) pool.give_back(one_.time);
    one_ = Epoch{};
  }
  // Whether the thread's last access is of this time; then nobody has written since.
  bool has(std::uint16_t thread, Time time, Pool<Epoch>& pool) const {
    const Epoch& e = one_.thread == kMany ? pool[one_.time][thread] : one_;
    return e.thread == thread && e.time == time;
  }
  void add(const Epoch& now, const Time* clock, Pool<Epoch>& pool) {
    if (one_.thread == kMany) {
      pool[one_.time][now.thread] = now;
    } else if (empty() || clock[one_.thread] >= one_.time) {
      one_ = now;
    } else {
      const std::uint32_t k = pool.take();
      pool[k][one_.thread] = one_;
      pool[k][now.thread] = now;
      one_ = Epoch{k, kMany, 0, 0};
    }
  }
  // Calls f with each that does not come before `clock`.
  template <typename F>
  void for_unordered(const Time* clock, Pool<Epoch>& pool, F f) const {
    if (empty()) return;
    if (one_.thread != kMany) {
      if (clock[one_.thread] < one_.time) f(one_);
      return;
    }
    const Epoch* const each = pool[one_.time];
    for (std::size_t t = 0; t < pool.width(); ++t) {
      if (clock[t] < each[t].time) f(each[t]);
    }
  }

 private:
  Epoch one_;  // of nobody if there is none; of kMany: `time` is the number of an array in the pool
};

// Four bytes, or two of them where words are shared by halves.
struct Cell {
  Epoch write;                               // the last weak write
  Marks reads, strong_reads, strong_writes;  // since then
  std::uint32_t released = 0;                // the times that an acquire learns of; 0: none
  bool halved = false;
  bool written() const { return write.thread != kNobody || !strong_writes.empty(); }
};

}  // namespace race
