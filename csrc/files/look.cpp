#include "look.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <stdexcept>
#include <type_traits>

#include "threads.h"
#include "xxh3.h"

namespace bmatch {
namespace {

// What is read for the hash is read for the magnitude while the nearest cache has it.
constexpr std::int64_t kAtOnce = 16 * Xxh3::kBlock;

template <typename T>
std::uint64_t largest(const void* entries, std::int64_t count) {
  using Signed = std::make_signed_t<T>;  // without its sign bit a number is none below zero
  const T* const values = static_cast<const T*>(entries);
  Signed most = 0;
  for (std::int64_t k = 0; k < count; ++k) {
    constexpr T kNoSign = static_cast<T>(std::numeric_limits<Signed>::max());
    most = std::max(most, static_cast<Signed>(values[k] & kNoSign));
  }
  return static_cast<std::uint64_t>(most);
}

std::uint64_t look_at_piece(const unsigned char* piece, int itemsize, unsigned char* hash) {
  Xxh3 hashed;
  std::uint64_t most = 0;
  for (std::int64_t at = 0; at < kHashedPiece; at += kAtOnce) {
    const bool is_last = at + kAtOnce == kHashedPiece;
    hashed.add(piece + at, kAtOnce / Xxh3::kBlock - is_last);
    if (itemsize != 0) {
      most = std::max(most, largest_magnitude(piece + at, kAtOnce / itemsize, itemsize));
    }
  }
  hashed.finish(piece + kHashedPiece - Xxh3::kBlock, hash);
  return most;
}

}  // namespace

std::uint64_t look_over(const void* content, std::int64_t count, int itemsize, int threads,
                        unsigned char* hashes) {
  if (itemsize != 0) largest_magnitude(content, 0, itemsize);  // throws here, not in a thread
  const auto* const bytes = static_cast<const unsigned char*>(content);
  std::atomic<std::uint64_t> most{0};
  ThreadTeam team(static_cast<int>(std::clamp<std::int64_t>(count, 1, threads)));
  share(team, count, [&](std::int64_t k) {
    const std::uint64_t found =
        look_at_piece(bytes + k * kHashedPiece, itemsize, hashes + k * Xxh3::kBytes);
    std::uint64_t before = most.load();
    while (before < found && !most.compare_exchange_weak(before, found)) {
    }
  });
  return most.load();
}

std::uint64_t largest_magnitude(const void* entries, std::int64_t count, int itemsize) {
  switch (itemsize) {
    case 1:
      return largest<std::uint8_t>(entries, count);
    case 2:
      return largest<std::uint16_t>(entries, count);
    case 4:
      return largest<std::uint32_t>(entries, count);
    case 8:
      return largest<std::uint64_t>(entries, count);
    default:
      throw std::invalid_argument("entries of 1, 2, 4 or 8 bytes are read");
  }
}

}  // namespace bmatch
