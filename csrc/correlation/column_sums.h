// Column sums of a block of rows and of their squares, about a shift or as they are, in one pass.
//
// The pass is bound by memory, so it reads once, in order, and keeps its sums near: rows of a page
// and more are added eight at a time in registers, shorter ones singly, as fetching ahead wants it.
// 64 rows are summed in the type of the sum, so that one massive row hides little of the others,
// and everything beyond in double. All instruction sets, and any number of threads, add in one
// order and give the same bits.
//
// Whatever is not finite shows in `square`: it is NaN or infinite there.
#pragma once

#include <cstdint>

#include "narrow_floats.h"
#include "threads.h"

namespace bmatch {

template <typename T>
struct ColumnSums {
  using Sum = decltype(widened(T{}));

  const T* values;  // rows x cols, rows row_stride apart
  std::int64_t rows, cols, row_stride;
  const Sum* shift;      // [cols], subtracted from every row; nullptr for none
  double *sum, *square;  // [cols], written
};

void column_sums(const ColumnSums<float>& task, Threads& threads);
void column_sums(const ColumnSums<double>& task, Threads& threads);
void column_sums(const ColumnSums<Bfloat16>& task, Threads& threads);

}  // namespace bmatch
