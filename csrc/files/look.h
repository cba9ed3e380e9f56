// Weights looked over as they are read: what they hash to, and whether they are finite.
#pragma once

#include <cstdint>

namespace bmatch {

// Bytes of which one hash is taken.
constexpr std::int64_t kHashedPiece = 1 << 20;

// XXH3-128 of each of `count` pieces, [count, 16]; returns the largest of their entries as
// `largest_magnitude` does, and 0 for an itemsize of 0.  Throws std::invalid_argument if entries
// have another size than 0, 1, 2, 4 or 8 bytes.
std::uint64_t look_over(const void* content, std::int64_t count, int itemsize, int threads,
                        unsigned char* hashes);

// The largest of `count` entries at an address, read as integers without their sign bit: of a
// floating type the largest magnitude, or a NaN.
std::uint64_t largest_magnitude(const void* entries, std::int64_t count, int itemsize);

}  // namespace bmatch
