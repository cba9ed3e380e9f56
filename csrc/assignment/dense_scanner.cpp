#include "dense_scanner.h"

#include <type_traits>

namespace bmatch {
namespace {

template <Sense sense, typename T>
void load(const T* x, std::int64_t stride, std::int64_t n, double* out) {
  if (stride == 1) {  // its own loop, so that the compiler can vectorise it
    for (std::int64_t j = 0; j < n; ++j) out[j] = cost_of<sense>(x[j]);
  } else {
    for (std::int64_t j = 0; j < n; ++j) out[j] = cost_of<sense>(x[j * stride]);
  }
}

}  // namespace

template <typename T>
const double* DenseScanner<T>::row(std::int64_t i, double* scratch) const {
  const T* x = view_.data + i * view_.row_stride;
  switch (view_.sense) {
    case Sense::minimize:
      if constexpr (std::is_same_v<T, double>) {
        if (view_.col_stride == 1) return x;
      }
      load<Sense::minimize>(x, view_.col_stride, view_.cols, scratch);
      break;
    case Sense::maximize:
      load<Sense::maximize>(x, view_.col_stride, view_.cols, scratch);
      break;
    case Sense::maximize_magnitude:
      load<Sense::maximize_magnitude>(x, view_.col_stride, view_.cols, scratch);
      break;
  }
  return scratch;
}

template class DenseScanner<float>;
template class DenseScanner<double>;

}  // namespace bmatch
