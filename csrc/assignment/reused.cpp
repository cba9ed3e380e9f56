#include "reused.h"

#include <deque>
#include <iterator>

namespace bmatch {
namespace {

constexpr std::align_val_t kLine{64};
constexpr std::size_t kSmall = std::size_t{32} << 10;  // below, the allocator's own memory is warm
constexpr std::size_t kKept = std::size_t{32} << 20;   // bytes a thread keeps at most

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kKeeps = false;  // every array a block of its own, so that overruns are seen
#else
constexpr bool kKeeps = true;
#endif

// Bytes of the block for so many: a quarter more at most, so that problems of about the same size
// find one another's.
std::size_t block_size(std::size_t bytes) {
  if (!kKeeps || bytes < kSmall) return bytes;
  std::size_t step = kSmall / 4;
  while (8 * step <= bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

// What a thread keeps, the oldest first.
class Spare {
 public:
  ~Spare() {
    while (!blocks_.empty()) drop();
  }
  void* take(std::size_t bytes) {
    for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) {
      if (block->bytes != bytes) continue;
      void* const memory = block->memory;
      blocks_.erase(std::next(block).base());
      kept_ -= bytes;
      return memory;
    }
    return nullptr;
  }
  void keep(void* memory, std::size_t bytes) {
    blocks_.push_back({memory, bytes});
    kept_ += bytes;
    while (kept_ > kKept) drop();
  }

 private:
  struct Block {
    void* memory;
    std::size_t bytes;
  };
  void drop() {
    kept_ -= blocks_.front().bytes;
    ::operator delete(blocks_.front().memory, kLine);
    blocks_.pop_front();
  }

  std::deque<Block> blocks_;
  std::size_t kept_ = 0;
};

thread_local Spare spare;

}  // namespace

void* take_memory(std::size_t bytes) {
  const std::size_t size = block_size(bytes);
  if (kKeeps && size >= kSmall) {
    if (void* const memory = spare.take(size)) return memory;
  }
  return ::operator new(size, kLine);
}

void give_memory(void* memory, std::size_t bytes) noexcept {
  const std::size_t size = block_size(bytes);
  if (kKeeps && size >= kSmall) {
    try {
      spare.keep(memory, size);
      return;
    } catch (const std::bad_alloc&) {  // no room to remember it
    }
  }
  ::operator delete(memory, kLine);
}

}  // namespace bmatch
