#include "correlation/column_sums.h"

#include <algorithm>
#include <vector>

#include "correlation/wide.h"

namespace bmatch {

namespace {

constexpr std::int64_t kRounded = 64;  // rows summed in the type of the values
constexpr std::int64_t kTogether = 8;  // rows summed in registers
constexpr std::int64_t kPage = 4096;   // bytes within which the processor fetches ahead

// Adds Rows rows to sums of the same type.
template <int Rows, bool Shifted, typename T>
BMATCH_INLINE void add_rows(const T* values, const ColumnSums<T>& task, T* __restrict sum,
                            T* __restrict square) {
  for (std::int64_t j = 0; j < task.cols; ++j) {
    T s = 0, q = 0;
    for (int i = 0; i < Rows; ++i) {
      const T value = values[i * task.row_stride + j] - (Shifted ? task.shift[j] : T{0});
      s += value;
      q += value * value;
    }
    sum[j] += s;
    square[j] += q;
  }
}

template <bool Shifted, typename T>
BMATCH_INLINE void sum_columns(const ColumnSums<T>& task, T* near) {
  const std::int64_t cols = task.cols;
  const bool together = cols * static_cast<std::int64_t>(sizeof(T)) >= kPage;
  T *const s = near, *const q = near + cols;
  std::fill_n(task.sum, cols, 0.0);
  std::fill_n(task.square, cols, 0.0);
  for (std::int64_t start = 0; start < task.rows; start += kRounded) {
    const std::int64_t end = std::min(start + kRounded, task.rows);
    std::fill_n(near, 2 * cols, T{0});
    std::int64_t i = start;
    for (; together && i + kTogether <= end; i += kTogether) {
      add_rows<kTogether, Shifted>(task.values + i * task.row_stride, task, s, q);
    }
    for (; i < end; ++i) add_rows<1, Shifted>(task.values + i * task.row_stride, task, s, q);
    for (std::int64_t j = 0; j < cols; ++j) {
      task.sum[j] += s[j];
      task.square[j] += q[j];
    }
  }
}

template <typename T>
BMATCH_INLINE void sum_either(const ColumnSums<T>& task, T* near) {
  if (task.shift == nullptr) {
    sum_columns<false>(task, near);
  } else {
    sum_columns<true>(task, near);
  }
}

BMATCH_WIDE void sum_float(const ColumnSums<float>& task, float* near) { sum_either(task, near); }

BMATCH_WIDE void sum_double(const ColumnSums<double>& task, double* near) {
  sum_either(task, near);
}

}  // namespace

void column_sums(const ColumnSums<float>& task) {
  std::vector<float> near(static_cast<std::size_t>(2 * task.cols));
  sum_float(task, near.data());
}

void column_sums(const ColumnSums<double>& task) {
  std::vector<double> near(static_cast<std::size_t>(2 * task.cols));
  sum_double(task, near.data());
}

}  // namespace bmatch
