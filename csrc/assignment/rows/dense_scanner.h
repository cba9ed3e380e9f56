// Rows of a matrix in host memory, float32 or float64, of any strides.
//
// Rows whose entries lie side by side are scanned in place; others are gathered first.
#pragma once

#include "row_scanner.h"

namespace bmatch {

template <typename T>
class DenseScanner : public RowScanner {
 public:
  explicit DenseScanner(const CostView<T>& view)
      : RowScanner(view.data, view.row_stride * static_cast<std::int64_t>(sizeof(T))),
        view_(view),
        bits_(view.sense) {}

  Index rows() const final { return static_cast<Index>(view_.rows); }
  Index cols() const final { return static_cast<Index>(view_.cols); }
  StoredRow row(Index i, double* room) const override;
  double cost(Index i, Index j) const override {
    return static_cast<double>(bits_(view_.data[i * view_.row_stride + j * view_.col_stride]));
  }
  AnyCostView whole() const override { return view_; }

 private:
  CostView<T> view_;
  CostBits<T> bits_;
};

extern template class DenseScanner<float>;
extern template class DenseScanner<double>;

}  // namespace bmatch
