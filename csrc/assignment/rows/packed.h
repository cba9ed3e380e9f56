// A matrix as a scanner of its rows, copied first where rows would be slow to gather.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <type_traits>

#include "assignment/policy.h"
#include "assignment/reused.h"
#include "dense_scanner.h"
#include "turned_lines.h"
#include "widened_scanner.h"

namespace bmatch {

template <typename T>
using ScannerOf = std::conditional_t<kIsWide<T>, DenseScanner<T>, WidenedScanner<T>>;

// A row-major copy of a matrix whose rows lie far apart in memory.  Of one that is turned, in
// squares of a cache line; else in blocks of whole lines by eight.  More columns a power of two
// apart would take one another's place in a cache.
template <typename T>
ReusedVector<T> packed(const CostView<T>& view) {
  constexpr std::int64_t kLine = 64 / sizeof(T), kRows = 4 * kLine, kCols = 8;
  ReusedVector<T> copy(static_cast<std::size_t>(view.rows * view.cols));
  if (view.row_stride == 1) {
    for (std::int64_t j0 = 0; j0 < view.cols; j0 += kLine) {
      const std::int64_t count = std::min(kLine, view.cols - j0);
      for (std::int64_t i0 = 0; i0 < view.rows; i0 += kLine) {
        const T* lines[kLine];
        for (std::int64_t k = 0; k < count; ++k)
          lines[k] = view.data + (j0 + k) * view.col_stride + i0;
        turn_lines(lines, count, std::min(kLine, view.rows - i0), copy.data() + i0 * view.cols + j0,
                   view.cols);
      }
    }
    return copy;
  }
  for (std::int64_t i0 = 0; i0 < view.rows; i0 += kRows) {
    const std::int64_t i1 = std::min(i0 + kRows, view.rows);
    for (std::int64_t j0 = 0; j0 < view.cols; j0 += kCols) {
      const std::int64_t j1 = std::min(j0 + kCols, view.cols);
      for (std::int64_t i = i0; i < i1; ++i) {
        const T* const from = view.data + i * view.row_stride + j0 * view.col_stride;
        T* const to = copy.data() + i * view.cols + j0;
        for (std::int64_t j = 0; j < j1 - j0; ++j) to[j] = from[j * view.col_stride];
      }
    }
  }
  return copy;
}

// Rows, or columns, that an Index counts.
constexpr std::int64_t kMostLines = std::numeric_limits<Index>::max() - kPad;

// Calls f with a scanner of a matrix of any strides.  Throws std::length_error if its rows or
// columns are more than an Index counts.
template <typename T, typename F>
auto with_scanner_of(CostView<T> view, F f) {
  if (view.rows > kMostLines || view.cols > kMostLines) {
    throw std::length_error("the cost matrix has more than 2**31 rows or columns");
  }
  constexpr std::int64_t kLine = 64 / sizeof(T);
  // Rows that use a part of each cache line only are cheaper to copy once than to gather often;
  // small problems are copied anyway, by columns (kernels/small_inl.h).
  const std::int64_t entries = view.rows * view.cols;
  const bool copied_anyway = kIsWide<T> && view.row_stride == 1 && entries <= kSmall;
  ReusedVector<T> copy;
  if (std::abs(view.col_stride) >= kLine && entries > kGathered && !copied_anyway) {
    copy = packed(view);
    view.data = copy.data();
    view.row_stride = view.cols;
    view.col_stride = 1;
  }
  return f(ScannerOf<T>(view));
}

}  // namespace bmatch
