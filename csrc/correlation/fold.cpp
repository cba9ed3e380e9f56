#include "fold.h"

#include "wide.h"

namespace bmatch {

namespace {

template <typename T>
BMATCH_INLINE void fold_one(const Fold<T>& task, std::int64_t i) {
  const double *const r0 = task.right, *const r1 = task.right + task.d2;
  double* const out = task.comoment + i * task.d2;
  const T* const products = task.products + i * task.d2;
  const double l0 = task.left[i], l1 = task.left[task.d1 + i];
  for (std::int64_t j = 0; j < task.d2; ++j) {
    out[j] += static_cast<double>(products[j]) + (l0 * r0[j] + l1 * r1[j]);
  }
}

BMATCH_WIDE void fold_row(const Fold<float>& task, std::int64_t i) { fold_one(task, i); }

BMATCH_WIDE void fold_row(const Fold<double>& task, std::int64_t i) { fold_one(task, i); }

}  // namespace

void fold(const Fold<float>& task, Threads& threads) {
  share(threads, task.d1, [&](std::int64_t i) { fold_row(task, i); });
}

void fold(const Fold<double>& task, Threads& threads) {
  share(threads, task.d1, [&](std::int64_t i) { fold_row(task, i); });
}

}  // namespace bmatch
