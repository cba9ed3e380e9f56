// Sums of columns, as column_sums.h tells, for whichever instruction set the including file is
// compiled for.  Included into an unnamed namespace.
#pragma once

constexpr std::int64_t kRounded = 64;  // rows summed in the type of the sum
constexpr std::int64_t kTogether = 8;  // rows summed in registers
constexpr std::int64_t kPage = 4096;   // bytes within which the processor fetches ahead

// Adds Rows rows to sums of their own type.
template <int Rows, bool Shifted, typename T, typename Sum>
inline void add_rows(const T* values, const ColumnSums<T>& task, Sum* __restrict sum,
                     Sum* __restrict square) {
  for (std::int64_t j = 0; j < task.cols; ++j) {
    Sum s = 0, q = 0;
    for (int i = 0; i < Rows; ++i) {
      const Sum value =
          widened(values[i * task.row_stride + j]) - (Shifted ? task.shift[j] : Sum{0});
      s += value;
      q += value * value;
    }
    sum[j] += s;
    square[j] += q;
  }
}

template <bool Shifted, typename T, typename Sum>
inline void sum_columns(const ColumnSums<T>& task, Sum* near) {
  const std::int64_t cols = task.cols;
  const bool together = cols * static_cast<std::int64_t>(sizeof(T)) >= kPage;
  Sum *const s = near, *const q = near + cols;
  std::fill_n(task.sum, cols, 0.0);
  std::fill_n(task.square, cols, 0.0);
  for (std::int64_t start = 0; start < task.rows; start += kRounded) {
    const std::int64_t end = std::min(start + kRounded, task.rows);
    std::fill_n(near, 2 * cols, Sum{0});
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
void sum_rows(const ColumnSums<T>& task, typename ColumnSums<T>::Sum* near) {
  if (task.shift == nullptr) {
    sum_columns<false>(task, near);
  } else {
    sum_columns<true>(task, near);
  }
}
