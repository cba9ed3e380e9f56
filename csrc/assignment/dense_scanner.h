// Rows of a matrix in host memory, float32 or float64, of any strides.
#pragma once

#include "cost_view.h"
#include "row_scanner.h"

namespace bmatch {

template <typename T>
class DenseScanner final : public RowScanner {
 public:
  explicit DenseScanner(const CostView<T>& view) : view_(view) {}

  std::int64_t rows() const override { return view_.rows; }
  std::int64_t cols() const override { return view_.cols; }
  const double* row(std::int64_t i, double* scratch) const override;

 private:
  CostView<T> view_;
};

extern template class DenseScanner<float>;
extern template class DenseScanner<double>;

}  // namespace bmatch
