// Rows that become columns, for copies of a matrix the other way round.
#pragma once

#include <algorithm>
#include <cstdint>

#include "square.h"

namespace bmatch {

// out[j * pitch + k] = lines[k][j] for k < count, j < length, a few lines at a time.
template <typename T>
void turn_lines(const T* const* lines, std::int64_t count, std::int64_t length, T* out,
                std::int64_t pitch) {
  constexpr std::int64_t n = Square<T>::n;
  for (std::int64_t k = 0; k < count; k += n) {
    std::int64_t j = 0;
    for (; k + n <= count && j + n <= length; j += n) {
      Square<T> square;
      for (int q = 0; q < n; ++q) square.set_row(q, lines[k + q] + j);
      square.transpose();
      for (int q = 0; q < n; ++q) square.write_row(q, out + (j + q) * pitch + k);
    }
    for (; j < length; ++j) {
      for (std::int64_t q = k; q < std::min(k + n, count); ++q) out[j * pitch + q] = lines[q][j];
    }
  }
}

}  // namespace bmatch
