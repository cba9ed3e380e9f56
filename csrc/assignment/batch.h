// Many problems of one shape, one thread a problem at a time.
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
  const double* limits = nullptr;  // [problems], of Partial; null: none
  bool most = false;               // of Partial
};

struct BatchResult {
  Outcome outcome;       // of the first problem that has no answer, or optimal
  std::int64_t problem;  // that problem, or the number of problems
};

// Writes the column of each row, kNone where unmatched, to col_of_row [problems, rows].  Rows may
// outnumber columns.  After an interruption or a problem without answer the rest is left undone.
template <typename T>
BatchResult solve_batch(const BatchView<T>& batch, int threads, std::int64_t* col_of_row,
                        const Interrupted& interrupted);

extern template BatchResult solve_batch(const BatchView<float>&, int, std::int64_t*,
                                        const Interrupted&);
extern template BatchResult solve_batch(const BatchView<double>&, int, std::int64_t*,
                                        const Interrupted&);

}  // namespace bmatch
