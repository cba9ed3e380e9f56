// Rows of a matrix that lies elsewhere, on a device that has scanned them once.
//
// The device's first pass leaves the two least costs of every row and a candidate list at price
// zero.  Prices are never above zero, so those lists stay true, and where they suffice no row is
// moved: on well separated matrices none is.  Other rows are fetched when they are first read, into
// a copy of the matrix of which only those rows are touched; once an eighth of them are there, all
// the others follow at once.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "dense_scanner.h"

namespace bmatch {

// What the device found, rows by rows.
struct FirstPass {
  const RowMinima* minima;  // [rows]
  // [rows, kListCapacity], cheapest first, infinite where unused: every other column costs at least
  // bound [rows].
  const double* list_cost;
  const Index* list_col;
  const double* bound;
};

// Puts rows of the matrix into the copy.  Called by one thread at a time; does not throw.
using Fetch = std::function<void(const std::vector<Index>& rows)>;

template <typename T>
class FetchedScanner final : public DenseScanner<T> {
 public:
  using Scratch = RowScanner::Scratch;

  // `copy` is where `fetch` puts rows.
  FetchedScanner(const CostView<T>& copy, const FirstPass& first, Fetch fetch);

  StoredRow row(Index i, double* room) const override;
  double cost(Index i, Index j) const override;
  AnyCostView whole() const override;

  // From the device's first pass, as far as it tells.
  void minima(Index first, int count, RowMinima* out, Scratch& scratch) const override;
  void candidates(const Index* rows, int count, PriceView prices, CandidateRow* out,
                  Scratch& scratch) const override;

 private:
  void require(const Index* rows, int count) const;
  bool listed(Index i, PriceView prices, CandidateRow& out) const;

  FirstPass first_;
  Fetch fetch_;
  mutable std::mutex guard_;
  mutable Index fetched_ = 0;
  mutable std::unique_ptr<std::atomic<bool>[]> here_;  // [rows]
};

extern template class FetchedScanner<float>;
extern template class FetchedScanner<double>;

}  // namespace bmatch
