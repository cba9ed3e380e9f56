#include "correlation/fold.h"

#include "correlation/wide.h"

namespace bmatch {

namespace {

template <typename T>
BMATCH_INLINE void fold_rows(const Fold<T>& task) {
  const double *const r0 = task.right, *const r1 = task.right + task.d2;
  for (std::int64_t i = 0; i < task.d1; ++i) {
    double* const out = task.comoment + i * task.d2;
    const T* const products = task.products + i * task.d2;
    const double l0 = task.left[i], l1 = task.left[task.d1 + i];
    for (std::int64_t j = 0; j < task.d2; ++j) {
      out[j] += static_cast<double>(products[j]) + (l0 * r0[j] + l1 * r1[j]);
    }
  }
}

BMATCH_WIDE void fold_float(const Fold<float>& task) { fold_rows(task); }

BMATCH_WIDE void fold_double(const Fold<double>& task) { fold_rows(task); }

}  // namespace

void fold(const Fold<float>& task) { fold_float(task); }

void fold(const Fold<double>& task) { fold_double(task); }

}  // namespace bmatch
