#include "dense_scanner.h"

namespace bmatch {

// Row i as it is stored, contiguous.
template <typename T>
const T* DenseScanner<T>::stored(Index i, Scratch& scratch) const {
  const T* x = view_.data + i * view_.row_stride;
  if (view_.col_stride == 1) return x;
  T* copy = reinterpret_cast<T*>(scratch.data());
  for (std::int64_t j = 0; j < view_.cols; ++j) copy[j] = x[j * view_.col_stride];
  return copy;
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
RowMinima DenseScanner<T>::minima(Index i, Scratch& scratch) const {
  return scans_.minima(stored(i, scratch), cols(), bits_);
}

template <typename T>
void DenseScanner<T>::candidates(Index i, PriceView prices, Index start, CandidateRow& out,
                                 Scratch& scratch) const {
  scans_.candidates(stored(i, scratch), cols(), bits_, prices, start, out);
}

template <typename T>
BestTwo DenseScanner<T>::best_two(Index i, const double* v, const std::uint8_t* free,
                                  Scratch& scratch) const {
  return scans_.best_two(stored(i, scratch), cols(), bits_, v, free);
}

template <typename T>
void DenseScanner<T>::relax(Index i, double base, PathState& state, Scratch& scratch) const {
  scans_.relax(stored(i, scratch), cols(), bits_, i, base, state);
}

template <typename T>
void DenseScanner<T>::lower(Index i, double u, double* least, Scratch& scratch) const {
  scans_.lower(stored(i, scratch), cols(), bits_, u, least);
}

template <typename T>
bool DenseScanner<T>::widen(Index i, double* out, Scratch& scratch) const {
  return scans_.widen(stored(i, scratch), cols(), bits_, out);
}

template class DenseScanner<float>;
template class DenseScanner<double>;

}  // namespace bmatch
