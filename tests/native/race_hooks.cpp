// What g++ calls where it compiles with -fsanitize=thread: before every access to memory, in place
// of atomics and fences, at the beginning and the end of functions.
//
// Only one fiber runs at a time and none is interrupted, so plain code is atomic.
#include <cstddef>
#include <cstdint>

#include "race.h"

namespace {

using race::Access;
using race::Order;

// Of the host's atomics, loads acquire and other operations release, if anything.
Order order_of_load(int order) {
  return order == __ATOMIC_ACQUIRE ? Order::acquire : Order::relaxed;
}
Order order_of_write(int order) {
  return order == __ATOMIC_RELEASE ? Order::release : Order::relaxed;
}

}  // namespace

#define CALLER __builtin_return_address(0)

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void* caller) { race::enter_function(caller); }
void __tsan_func_exit() { race::leave_function(); }
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

#define ACCESS(name, kind, bytes) \
  void __tsan_##name##bytes(void* p) { race::access(Access::kind, p, bytes, CALLER); }
#define ACCESSES(bytes)                               \
  ACCESS(read, read, bytes)                           \
  ACCESS(write, write, bytes)                         \
  ACCESS(unaligned_read, read, bytes)                 \
  ACCESS(unaligned_write, write, bytes)               \
  ACCESS(volatile_read, strong_read, bytes)           \
  ACCESS(volatile_write, strong_write, bytes)         \
  ACCESS(unaligned_volatile_read, strong_read, bytes) \
  ACCESS(unaligned_volatile_write, strong_write, bytes)
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)
void __tsan_read_range(void* p, std::size_t bytes) { race::access(Access::read, p, bytes, CALLER); }
void __tsan_write_range(void* p, std::size_t bytes) {
  race::access(Access::write, p, bytes, CALLER);
}

#define ATOMICS(bits, Word)                                                         \
  Word __tsan_atomic##bits##_load(const Word* p, int order) {                       \
    race::access(Access::strong_read, p, bits / 8, CALLER, order_of_load(order));   \
    return *p;                                                                      \
  }                                                                                 \
  void __tsan_atomic##bits##_store(Word* p, Word x, int order) {                    \
    race::access(Access::strong_write, p, bits / 8, CALLER, order_of_write(order)); \
    *p = x;                                                                         \
  }                                                                                 \
  Word __tsan_atomic##bits##_exchange(Word* p, Word x, int order) {                 \
    race::access(Access::update, p, bits / 8, CALLER, order_of_write(order));       \
    const Word old = *p;                                                            \
    *p = x;                                                                         \
    return old;                                                                     \
  }                                                                                 \
  Word __tsan_atomic##bits##_fetch_add(Word* p, Word x, int order) {                \
    race::access(Access::update, p, bits / 8, CALLER, order_of_write(order));       \
    const Word old = *p;                                                            \
    *p = old + x;                                                                   \
    return old;                                                                     \
  }
ATOMICS(32, std::uint32_t)
ATOMICS(64, std::uint64_t)
void __tsan_atomic_thread_fence(int) { race::fence(); }

}  // extern "C"
