#include "dense_scanner.h"

namespace bmatch {

template <typename T>
StoredRow DenseScanner<T>::row(Index i, double* room) const {
  const T* x = view_.data + i * view_.row_stride;
  if (view_.col_stride == 1) return {x, view_.sense};
  T* const gathered = reinterpret_cast<T*>(room);
  for (std::int64_t j = 0; j < view_.cols; ++j) gathered[j] = x[j * view_.col_stride];
  return {gathered, view_.sense};
}

template class DenseScanner<float>;
template class DenseScanner<double>;

}  // namespace bmatch
