// Rows of a tensor taken along its axes: entries from elsewhere, some with their sign bit turned.
//
// Entries are bits of 1, 2, 4 or 8 bytes, whatever they mean. Rows are written one after another,
// so that what is written at a time stays in a cache until it goes to a file.
#pragma once

#include <cstdint>

namespace bmatch {

struct Take {
  const void* source;
  const std::int64_t* starts;  // [rows]: the entry of source with which each begins
  const bool* turned;          // [rows]: whose signs are turned; nullptr for none
  std::int64_t rows, cols;
  const std::int32_t* columns;  // [cols]: entries of a row of source; nullptr for 0, 1, ...
  const bool* turned_columns;   // [cols]; nullptr for none
  int itemsize;
};

// Writes rows x cols entries.  Throws std::invalid_argument if they have another size.
void take(const Take& task, void* out);

// Writes them to a file at a place, by about `piece` bytes at a time: rows, or parts of a longer
// one.  Throws also std::system_error if they cannot be written.
void take_to_file(const Take& task, int file, std::int64_t at, std::int64_t piece, int threads);

}  // namespace bmatch
