#include "dense_scanner.h"

#include <algorithm>

namespace bmatch {

// Row i as it is stored, contiguous; in `room` [cols] unless it is so in the matrix.
template <typename T>
const T* DenseScanner<T>::stored(Index i, T* room) const {
  const T* x = view_.data + i * view_.row_stride;
  if (view_.col_stride == 1) return x;
  for (std::int64_t j = 0; j < view_.cols; ++j) room[j] = x[j * view_.col_stride];
  return room;
}

// The first kGroup of the rows, and where the next ones lie; after the last, those behind them if
// the rows follow one another as in a pass.
template <typename T>
RowGroup<T> DenseScanner<T>::group(const Index* rows, int count, Scratch& scratch) const {
  RowGroup<T> out{};
  out.count = std::min(count, kGroup);
  for (int k = 0; k < out.count; ++k) {
    out.index[k] = rows[k];
    out.row[k] = stored(rows[k], reinterpret_cast<T*>(scratch.row(k)));
    const bool pass = count >= kGroup && rows[kGroup - 1] == rows[0] + kGroup - 1;
    const Index behind = pass ? std::min(rows[k] + kGroup, this->rows() - 1) : rows[k];
    out.ahead[k] = view_.data + (k + kGroup < count ? rows[k + kGroup] : behind) * view_.row_stride;
  }
  return out;
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
Step DenseScanner<T>::solve_small(SmallProblem& problem) const {
  if constexpr (sizeof(T) == sizeof(double))
    return row_kernels().small_f64(view_, problem);
  else
    return row_kernels().small_f32(view_, problem);
}

template <typename T>
void DenseScanner<T>::minima(Index first, int count, RowMinima* out, Scratch& scratch) const {
  for (int k = 0; k < count; k += kGroup) {
    const Index i = first + k;
    const Index rows[] = {i, i + 1, i + 2, i + 3};
    scans_.minima(group(rows, std::min(count - k, kGroup), scratch), cols(), bits_, scratch.cells(),
                  out + k);
  }
}

template <typename T>
void DenseScanner<T>::candidates(const Index* rows, int count, PriceView prices, CandidateRow* out,
                                 Scratch& scratch) const {
  for (int k = 0; k < count; k += kGroup) {
    scans_.candidates(group(rows + k, count - k, scratch), cols(), bits_, prices, scratch.cells(),
                      out + k);
  }
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

template <typename T>
bool DenseScanner<T>::on_grid(Index i, double grid, Scratch& scratch) const {
  return scans_.on_grid(stored(i, scratch), cols(), bits_, grid);
}

template class DenseScanner<float>;
template class DenseScanner<double>;

}  // namespace bmatch
