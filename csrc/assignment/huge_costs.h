// Costs so large that their sums and differences pass the range of float64.
//
// There a price becomes -infinity, a reduced cost infinite and so a pair forbidden, a sum of costs
// NaN.  Such a matrix is solved again times a power of two that leaves room for all sums; but for
// entries below 2^-1010 that is exact, and the answer is scaled back.  Whether it was needed is
// asked of the answer: prices only fall, and u_i = min_j (c_ij - v_j) only rises, to what it is at
// the end.  So while matched costs and prices at the end are far below the limit, all u have been
// so, and with them all distances up to the ends of paths; what passed the limit lay beyond them.
#pragma once

#include <memory>

#include "assignment/rows/row_scanner.h"
#include "solver.h"

namespace bmatch {

// Whether sums may have passed the range of float64 while this answer was found.  Without an answer
// the matrix is read, up to the first row that says so.
bool may_have_overflowed(const RowScanner& costs, const Solution& found);

// Costs times 2^-64.
class ScaledDown final : public RowScanner {
 public:
  ScaledDown(const RowScanner& costs, const Options& options);

  Index rows() const override { return costs_.rows(); }
  Index cols() const override { return costs_.cols(); }
  StoredRow row(Index i, double* room) const override;
  double cost(Index i, Index j) const override;
  AnyCostView whole() const override;

  // Duals, objective and gap of the costs as they were.  Prices of square problems, which may move
  // by a constant, are moved to where the most of them are finite.
  static void scale_back(Solution& solution);

 private:
  const RowScanner& costs_;
  std::unique_ptr<double[]> copy_;  // [rows, cols] for the small solver, if that is used
};

}  // namespace bmatch
