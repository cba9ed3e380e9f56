// Rows of a matrix in host memory, of any strides, in a type that is widened row by row.
#pragma once

#include "row_scanner.h"

namespace bmatch {

template <typename T>
class WidenedScanner final : public RowScanner {
 public:
  explicit WidenedScanner(const CostView<T>& view) : view_(view), bits_(view.sense) {}

  Index rows() const override { return static_cast<Index>(view_.rows); }
  Index cols() const override { return static_cast<Index>(view_.cols); }
  StoredRow row(Index i, double* room) const override;
  double cost(Index i, Index j) const override {
    const T stored = view_.data[i * view_.row_stride + j * view_.col_stride];
    return static_cast<double>(bits_(widened(stored)));
  }
  // A wide copy.
  AnyCostView whole() const override;

 private:
  void widen(Index i, Wide<T>* out) const;

  CostView<T> view_;
  CostBits<Wide<T>> bits_;
  const Widen<T> widen_ = row_kernels().widening<T>();
  mutable ReusedVector<Wide<T>> copy_;  // [rows, cols], for the small solver
};

}  // namespace bmatch
