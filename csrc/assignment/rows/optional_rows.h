// A matrix each of whose rows may stay out, at a price: it has a column of its own, at that cost.
//
// Behind the columns of the matrix, filled up to a multiple of kPad with columns that nobody can
// have, stands one for every row, at infinite cost to all others; nothing of them is stored.  Where
// prices start at zero and only fall, as they do while there are more columns than rows, nobody
// takes a column that costs more than the limit, and a row that stays out stays out for good: no
// path leads to its own column but by the row itself.
#pragma once

#include "row_scanner.h"

namespace bmatch {

class OptionalRows final : public RowScanner {
 public:
  OptionalRows(const RowScanner& costs, double limit)
      : costs_(costs), limit_(limit), first_own_(padded(costs.cols())) {}

  Index rows() const override { return costs_.rows(); }
  Index cols() const override { return first_own_ + costs_.rows(); }
  StoredRow row(Index i, double* room) const override;
  double cost(Index i, Index j) const override;
  AnyCostView whole() const override;
  std::int64_t effort() const override { return costs_.effort(); }
  bool takes_prices() const override { return false; }

  void minima(Index first, int count, RowMinima* out, Scratch& scratch) const override;
  void candidates(const Index* rows, int count, PriceView prices, CandidateRow* out,
                  Scratch& scratch) const override;
  BestTwo best_two(Index i, const double* v, const std::uint8_t* free,
                   Scratch& scratch) const override;
  Claim claim(Index i, const double* v, const std::uint8_t* free, Scratch& scratch) const override;
  void relax(Index i, double base, PathState& state, Scratch& scratch) const override;

 private:
  Index own(Index i) const { return first_own_ + i; }
  void add_own(Index i, PriceView prices, CandidateRow& list) const;

  const RowScanner& costs_;
  const double limit_;
  const Index first_own_;
  mutable ReusedVector<double> copy_;
};

}  // namespace bmatch
