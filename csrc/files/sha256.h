// SHA-256 of several streams of bytes at once. Without instructions for it one stream keeps a core
// busy at 0.4 GB a second; as many streams as a vector has lanes take little longer than one.
#pragma once

#include <cstdint>

namespace bmatch {

// How many streams the instruction set in use takes in at once; 1 where a library does as well.
int sha256_lanes();

// Takes `count` blocks of 64 bytes of each stream into its state. States are [8, lanes], with the
// words of one stream in a column; `data` are addresses, [lanes].  Throws std::invalid_argument if
// no instruction set of this machine has so many lanes.
void sha256_blocks(int lanes, std::uint32_t* states, const unsigned char* const* data,
                   std::int64_t count);

}  // namespace bmatch
