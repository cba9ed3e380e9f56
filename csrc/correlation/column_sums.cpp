#include "column_sums.h"

#include <algorithm>
#include <tuple>
#include <vector>

#include "kernels/correlation_kernels.h"

namespace bmatch {

namespace {

constexpr std::int64_t kShared = 1024;  // rows a thread takes at once

// Sums of each kShared rows, and then of these.
template <typename T>
void share_rows(const ColumnSums<T>& task, Threads& threads) {
  const std::int64_t cols = task.cols, parts = (task.rows + kShared - 1) / kShared;
  const SumRows<T> sum_rows = std::get<SumRows<T>>(correlation_kernels().sum_rows);
  std::vector<double> sums(static_cast<std::size_t>(2 * cols * parts));  // [parts, 2, cols]
  share(threads, parts, [&](std::int64_t part) {
    const std::int64_t first = part * kShared;
    std::vector<typename ColumnSums<T>::Sum> near(static_cast<std::size_t>(2 * cols));
    double* const sum = sums.data() + 2 * cols * part;
    sum_rows({task.values + first * task.row_stride, std::min(kShared, task.rows - first), cols,
              task.row_stride, task.shift, sum, sum + cols},
             near.data());
  });
  std::fill_n(task.sum, cols, 0.0);
  std::fill_n(task.square, cols, 0.0);
  for (std::int64_t part = 0; part < parts; ++part) {
    const double* const sum = sums.data() + 2 * cols * part;
    for (std::int64_t j = 0; j < cols; ++j) {
      task.sum[j] += sum[j];
      task.square[j] += sum[cols + j];
    }
  }
}

}  // namespace

void column_sums(const ColumnSums<float>& task, Threads& threads) { share_rows(task, threads); }

void column_sums(const ColumnSums<double>& task, Threads& threads) { share_rows(task, threads); }

void column_sums(const ColumnSums<Bfloat16>& task, Threads& threads) { share_rows(task, threads); }

}  // namespace bmatch
