// Rows of a matrix that never exists: they are computed from factors whenever they are read.
//
// The factors are those of the rows, x [rows, terms], and of the columns, y [cols, terms]; a cost
// comes out in the same bits however it is computed (kernels/factor_kernels.h).  Memory: a copy of
// y, panel by panel, a few rows a thread, and rows that are asked for again, up to a budget.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "assignment/kernels/factor_kernels.h"
#include "row_cache.h"
#include "row_scanner.h"

namespace bmatch {

// Rows of factors, side by side.
template <typename T>
struct FactorView {
  const T* data;  // [rows, terms]
  Index rows;
  Index terms;
  const T* row(Index i) const { return data + std::int64_t{i} * terms; }
};

// float32 or float64, finite.  Both sides have the same terms.
template <typename T>
class FactorScanner final : public RowScanner {
 public:
  // Keeps up to `bytes` of rows that are asked for again.
  FactorScanner(const FactorView<T>& x, const FactorView<T>& y, FactorCost cost, Sense sense,
                std::int64_t bytes);

  Index rows() const override { return x_.rows; }
  Index cols() const override { return y_.rows; }
  StoredRow row(Index i, double* room) const override;
  double cost(Index i, Index j) const override;
  AnyCostView whole() const override;
  std::unique_ptr<RowScanner> columns() const override;
  std::int64_t effort() const override { return 1 + y_.terms / 8; }

  // Block by block: factors of columns are read once for many rows.
  void minima(Index first, int count, RowMinima* out, Scratch& scratch) const override;
  void candidates(const Index* rows, int count, PriceView prices, CandidateRow* out,
                  Scratch& scratch) const override;

  // Stored entries of any rows, from column `first`, a multiple of kPanel, to `end`: out[k] has
  // room for them.
  void entries(const Index* rows, int count, Index first, Index end, double* const* out) const;
  // A stored entry.
  double entry(Index i, Index j) const;

 private:
  const FactorView<T> x_, y_;
  const FactorCost cost_;
  const Sense sense_;
  const std::int64_t bytes_;
  const CostBits<double> bits_;
  ReusedVector<T> panels_;                 // [panels, terms, kPanel]
  std::vector<double> x_scale_, y_scale_;  // [rows], [padded cols], for cosines
  mutable RowCache cache_;
  mutable ReusedVector<double> copy_;  // [rows, cols], for the small solver
};

extern template class FactorScanner<float>;
extern template class FactorScanner<double>;

}  // namespace bmatch
