// The one thing a cost matrix must be able to do for the solver: hand out a row.
//
// Everything above this interface (lists, auction, paths, certificate, margins) is independent of
// where the rows come from: memory, a device, or factors from which they are recomputed.  A row
// comes as it is stored; what is done with one, the scans of row_kernels.h, stands here once.  A
// new kind of matrix gives rows and single costs, and overrides scans where it knows a quicker way
// than to read its rows.
//
// All methods are const and may run in several threads at once, each with a scratch of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <variant>

#include "cost_view.h"
#include "assignment/kernels/row_kernels.h"
#include "assignment/reused.h"

namespace bmatch {

// A matrix in memory, of any type that is scanned as it is stored.
using AnyCostView = std::variant<CostView<float>, CostView<double>>;

// A row as it is stored: its entries side by side, [cols], and what counts as a cost.
struct StoredRow {
  std::variant<const float*, const double*> entries;
  Sense sense;
};

class RowScanner {
 public:
  // What a scan works in, one a thread: rows of float64, and the kernels' cells.  Memory that is
  // not used is not touched.
  class Scratch {
   public:
    explicit Scratch(Index cols)
        : stride_(padded(cols)), memory_(kGroup * stride_ + cell_room(cols)) {}
    double* row(int k = 0) { return memory_.data() + k * stride_; }  // k < kGroup
    double* cells() { return row(kGroup); }

   private:
    std::int64_t stride_;
    ReusedVector<double> memory_;
  };

  virtual ~RowScanner() = default;

  virtual Index rows() const = 0;
  virtual Index cols() const = 0;

  // Row i, in the same type for every row: where it lies, or in `room`, large enough for [cols] of
  // float64; valid until `room` is used again.
  virtual StoredRow row(Index i, double* room) const = 0;

  // c_ij in float64, exact.
  virtual double cost(Index i, Index j) const = 0;

  // The whole matrix in memory, for the small solver.
  virtual AnyCostView whole() const = 0;

  // Its columns as rows where they can be made without a copy of the matrix, or null.
  virtual std::unique_ptr<RowScanner> columns() const { return nullptr; }

  // Whether the scans take it, in a matrix with more columns than rows, that free columns have
  // prices.
  virtual bool takes_prices() const { return true; }

  // What an entry takes, about, in entries that lie in memory.
  virtual std::int64_t effort() const { return 1; }

  // The scans of row_kernels.h on many rows: on first, first + 1, ..., or on any.
  virtual void minima(Index first, int count, RowMinima* out, Scratch& scratch) const;
  virtual void candidates(const Index* rows, int count, PriceView prices, CandidateRow* out,
                          Scratch& scratch) const;

  // The same on row i.
  virtual BestTwo best_two(Index i, const double* v, const std::uint8_t* free,
                           Scratch& scratch) const;
  virtual Claim claim(Index i, const double* v, const std::uint8_t* free, Scratch& scratch) const;
  virtual void relax(Index i, double base, PathState& state, Scratch& scratch) const;
  void lower(Index i, double u, double* least, Scratch& scratch) const;
  bool is_plateau(Index i, double least, Scratch& scratch) const;
  Greatest greatest(Index i, const double* v, Scratch& scratch) const;
  double exceeded_by_most(Index i, const double* v, Index wanted, double* least,
                          Scratch& scratch) const;
  Index below(Index i, const double* v, double limit, Index most, double* cost, Index* col,
              Scratch& scratch) const;
  double least_error(Index i, const double* v, double u, Scratch& scratch) const;
  bool on_grid(Index i, double grid, Scratch& scratch) const;

  // The costs of row i in float64, [cols]; valid until the scratch is used again.
  const double* row_costs(Index i, Scratch& scratch) const;

  Scratch scratch() const { return Scratch(cols()); }

 protected:
  // Where rows lie in memory, to be fetched ahead of their scan: the first, and the bytes from one
  // to the next.  Null if they are made.
  explicit RowScanner(const void* first = nullptr, std::int64_t pitch = 0)
      : first_(static_cast<const char*>(first)), pitch_(pitch) {}

 private:
  // Rows that are scanned together.  One that was made is in the caches, and best scanned at once.
  int at_once() const { return first_ == nullptr ? 1 : kGroup; }
  template <typename F>
  auto scan(Index i, Scratch& scratch, F f) const;
  template <typename F>
  void scan_group(const Index* rows, int count, Scratch& scratch, F f) const;

  const RowKernels& kernels_ = row_kernels();
  const char* const first_;
  const std::int64_t pitch_;
};

}  // namespace bmatch
