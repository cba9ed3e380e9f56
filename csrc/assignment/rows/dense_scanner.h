// Rows of a matrix in host memory, float32 or float64, of any strides.
//
// Rows whose entries lie side by side are scanned in place; others are gathered first.
#pragma once

#include "cost_view.h"
#include "row_scanner.h"

namespace bmatch {

template <typename T>
class DenseScanner final : public RowScanner {
 public:
  explicit DenseScanner(const CostView<T>& view)
      : view_(view), bits_(view.sense), scans_(row_kernels().scans<T>()) {}

  Index rows() const override { return static_cast<Index>(view_.rows); }
  Index cols() const override { return static_cast<Index>(view_.cols); }
  const double* row(Index i, double* scratch) const override;
  double cost(Index i, Index j) const override {
    return static_cast<double>(bits_(view_.data[i * view_.row_stride + j * view_.col_stride]));
  }

  Step solve_small(SmallProblem& problem) const override;
  void minima(Index first, int count, RowMinima* out, Scratch& scratch) const override;
  void candidates(const Index* rows, int count, PriceView prices, CandidateRow* out,
                  Scratch& scratch) const override;
  BestTwo best_two(Index i, const double* v, const std::uint8_t* free,
                   Scratch& scratch) const override;
  Claim claim(Index i, const double* v, const std::uint8_t* free, Scratch& scratch) const override;
  void relax(Index i, double base, PathState& state, Scratch& scratch) const override;
  void lower(Index i, double u, double* least, Scratch& scratch) const override;
  bool on_grid(Index i, double grid, Scratch& scratch) const override;

 private:
  const T* stored(Index i, T* room) const;
  const T* stored(Index i, Scratch& scratch) const {
    return stored(i, reinterpret_cast<T*>(scratch.row()));
  }
  RowGroup<T> group(const Index* rows, int count, Scratch& scratch) const;

  CostView<T> view_;
  CostBits<T> bits_;
  const RowScans<T>& scans_;
};

extern template class DenseScanner<float>;
extern template class DenseScanner<double>;

}  // namespace bmatch
