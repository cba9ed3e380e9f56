// XXH3 with 128 bits and no seed (xxHash 0.8), of what is long and made of whole blocks.
//
// It tells weights apart that differ by chance, at the speed of memory; who means to can find two
// that have one hash.
#pragma once

#include <cstdint>

namespace bmatch {

class Xxh3 {
 public:
  static constexpr std::int64_t kBlock = 1024;
  static constexpr int kBytes = 16;  // of a hash

  // Takes in `count` blocks, of which none is the last.
  void add(const unsigned char* blocks, std::int64_t count);

  // Takes in the last block, the first of `blocks` being the one behind those added.  The hash is
  // in the canonical form: big endian, the high half first.
  void finish(const unsigned char* block, unsigned char* hash);

 private:
  alignas(16) std::uint64_t state_[8] = {0xC2B2AE3D,         0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F,
                                         0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x85EBCA77,
                                         0x27D4EB2F165667C5, 0x9E3779B1};
  std::uint64_t length_ = 0;
};

}  // namespace bmatch
