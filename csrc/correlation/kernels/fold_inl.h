// One row of a fold, for whichever instruction set the including file is compiled for.  Included
// into an unnamed namespace.
#pragma once

template <typename T>
void fold_row(const Fold<T>& task, std::int64_t i) {
  const double *const r0 = task.right, *const r1 = task.right + task.d2;
  double* const out = task.comoment + i * task.d2;
  const T* const products = task.products + i * task.d2;
  const double l0 = task.left[i], l1 = task.left[task.d1 + i];
  for (std::int64_t j = 0; j < task.d2; ++j) {
    out[j] += static_cast<double>(products[j]) + (l0 * r0[j] + l1 * r1[j]);
  }
}
