// Many problems, one thread a problem at a time.
#pragma once

#include <cstdint>

#include "assignment/rows/cost_view.h"
#include "partial.h"

namespace bmatch {

template <typename T>
struct BatchView {
  const T* data;
  std::int64_t problems, rows, cols;
  std::int64_t problem_stride, row_stride, col_stride;
  Sense sense;
  // [problems, 2], rows and columns of each problem, whose other entries are not read; or null,
  // where all have those of the batch.
  const std::int64_t* sizes = nullptr;
  const double* limits = nullptr;  // [problems], of Partial; null: none
  bool most = false;               // of Partial
};

struct BatchResult {
  Outcome outcome;       // of the first problem that has no answer, or optimal
  std::int64_t problem;  // that problem, or the number of problems
};

// Writes the column of each row, kNone where unmatched, to col_of_row [problems, rows].  Rows may
// outnumber columns.  After an interruption or a problem without answer the rest is left undone.
// T is a type of stored_types.h, float or double.
template <typename T>
BatchResult solve_batch(const BatchView<T>& batch, int threads, std::int64_t* col_of_row,
                        const Interrupted& interrupted);

}  // namespace bmatch
