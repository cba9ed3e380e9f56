// A matrix none of whose entries costs more than a limit: what is above costs the limit itself.
//
// A complete assignment of it is a partial one of the matrix as it was, in which a row that gets a
// column above the limit stays out.  Every partial assignment can be completed so, for there are
// no fewer columns than rows, and so the best of the one is the best of the other, where a row
// that stays out costs the limit.
#pragma once

#include <memory>
#include <utility>

#include "row_scanner.h"

namespace bmatch {

class ClampedRows final : public RowScanner {
 public:
  ClampedRows(const RowScanner& costs, double limit)
      : costs_(costs),
        limit_(limit),
        single_(static_cast<double>(static_cast<float>(limit)) == limit) {}
  ClampedRows(std::unique_ptr<const RowScanner> costs, double limit) : ClampedRows(*costs, limit) {
    own_ = std::move(costs);
  }

  Index rows() const override { return costs_.rows(); }
  Index cols() const override { return costs_.cols(); }
  // In float64 where float32 has no such limit.
  StoredRow row(Index i, double* room) const override;
  double cost(Index i, Index j) const override;
  AnyCostView whole() const override;
  std::unique_ptr<RowScanner> columns() const override;
  std::int64_t effort() const override { return costs_.effort(); }

  // From those of the matrix as it was, with what they do not tell at the limit.
  void minima(Index first, int count, RowMinima* out, Scratch& scratch) const override;
  void candidates(const Index* rows, int count, PriceView prices, CandidateRow* out,
                  Scratch& scratch) const override;

 private:
  std::unique_ptr<const RowScanner> own_;  // null if another owns them
  const RowScanner& costs_;
  const double limit_;
  const bool single_;  // whether float32 holds the limit
  mutable ReusedVector<double> copy_;
};

}  // namespace bmatch
