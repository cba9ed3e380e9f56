#include "widened_scanner.h"

namespace bmatch {

template <typename T>
void WidenedScanner<T>::widen(Index i, Wide<T>* out) const {
  const T* const x = view_.data + i * view_.row_stride;
  if (view_.col_stride == 1) return widen_(x, cols(), out);
  for (Index j = 0; j < cols(); ++j) out[j] = widened(x[j * view_.col_stride]);
}

template <typename T>
StoredRow WidenedScanner<T>::row(Index i, double* room) const {
  auto* const out = reinterpret_cast<Wide<T>*>(room);
  widen(i, out);
  return {out, view_.sense};
}

template <typename T>
AnyCostView WidenedScanner<T>::whole() const {
  copy_.resize(static_cast<std::size_t>(view_.rows * view_.cols));
  for (Index i = 0; i < rows(); ++i) widen(i, copy_.data() + i * view_.cols);
  return CostView<Wide<T>>{copy_.data(), view_.rows, view_.cols, view_.cols, 1, view_.sense};
}

template class WidenedScanner<Half>;
template class WidenedScanner<Bfloat16>;
template class WidenedScanner<Boolean>;
template class WidenedScanner<std::int8_t>;
template class WidenedScanner<std::uint8_t>;
template class WidenedScanner<std::int16_t>;
template class WidenedScanner<std::uint16_t>;
template class WidenedScanner<std::int32_t>;
template class WidenedScanner<std::uint32_t>;

}  // namespace bmatch
