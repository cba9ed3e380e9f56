#include "dense_scanner.h"

namespace bmatch {

// Rows as they are stored, each contiguous.
template <typename T>
RowGroup<T> DenseScanner<T>::stored(Index first, int count, Scratch& scratch) const {
  const T* x = view_.data + first * view_.row_stride;
  if (view_.col_stride == 1) return {x, view_.row_stride, count, first};
  const auto stride = reinterpret_cast<T*>(scratch.row(1)) - reinterpret_cast<T*>(scratch.row(0));
  T* const copy = reinterpret_cast<T*>(scratch.row());
  for (int k = 0; k < count; ++k) {
    for (std::int64_t j = 0; j < view_.cols; ++j) {
      copy[k * stride + j] = x[k * view_.row_stride + j * view_.col_stride];
    }
  }
  return {copy, stride, count, first};
}

template <typename T>
const double* DenseScanner<T>::row(Index i, double* scratch) const {
  const T* x = view_.data + i * view_.row_stride;
  if constexpr (sizeof(T) == sizeof(double)) {
    if (view_.sense == Sense::minimize && view_.col_stride == 1) return x;
  }
  for (std::int64_t j = 0; j < view_.cols; ++j) {
    scratch[j] = static_cast<double>(bits_(x[j * view_.col_stride]));
  }
  return scratch;
}

template <typename T>
Progress DenseScanner<T>::solve_small(SmallProblem& problem) const {
  if constexpr (sizeof(T) == sizeof(double)) return row_kernels().small_f64(view_, problem);
  else return row_kernels().small_f32(view_, problem);
}

template <typename T>
void DenseScanner<T>::minima(Index first, int count, RowMinima* out, Scratch& scratch) const {
  scans_.minima(stored(first, count, scratch), cols(), bits_, scratch.cells(), out);
}

template <typename T>
void DenseScanner<T>::candidates(Index first, int count, PriceView prices, CandidateRow* out,
                                 Scratch& scratch) const {
  scans_.candidates(stored(first, count, scratch), cols(), bits_, prices, scratch.cells(), out);
}

template <typename T>
BestTwo DenseScanner<T>::best_two(Index i, const double* v, const std::uint8_t* free,
                                  Scratch& scratch) const {
  return scans_.best_two(stored(i, scratch), cols(), bits_, v, free);
}

template <typename T>
Claim DenseScanner<T>::claim(Index i, const double* v, const std::uint8_t* free,
                             Scratch& scratch) const {
  return scans_.claim(stored(i, scratch), cols(), bits_, v, free);
}

template <typename T>
void DenseScanner<T>::relax(Index i, double base, PathState& state, Scratch& scratch) const {
  scans_.relax(stored(i, scratch), cols(), bits_, i, base, state);
}

template <typename T>
void DenseScanner<T>::lower(Index i, double u, double* least, Scratch& scratch) const {
  scans_.lower(stored(i, scratch), cols(), bits_, u, least);
}

template class DenseScanner<float>;
template class DenseScanner<double>;

}  // namespace bmatch
