// The one thing a cost matrix must be able to do for the solver: have its rows scanned
// against prices.
//
// Everything above this interface (lists, auction, paths, certificate, margins) is independent of
// where the rows come from: memory, a device, or factors from which they are recomputed.  A
// new kind of matrix need only give exact float64 rows; it overrides the scans it can do better.
//
// All methods are const and may run in several threads at once, each with a scratch of its own.
#pragma once

#include <cstdint>

#include "assignment/reused.h"
#include "assignment/kernels/row_kernels.h"

namespace bmatch {

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
  Scratch scratch() const { return Scratch(cols()); }

  // The costs of row i, exact in float64, contiguous, [cols].  Either a pointer into the
  // matrix itself or `scratch` (at least [cols]) filled; valid until scratch is reused.
  virtual const double* row(Index i, double* scratch) const = 0;
  virtual double cost(Index i, Index j) const = 0;

  // Solves the whole problem by the small solver (small.h).
  virtual Step solve_small(SmallProblem& problem) const;

  // The scans of row_kernels.h, on rows first, first + 1, ..., on any rows, or on row i.
  virtual void minima(Index first, int count, RowMinima* out, Scratch& scratch) const;
  virtual void candidates(const Index* rows, int count, PriceView prices, CandidateRow* out,
                          Scratch& scratch) const;
  virtual BestTwo best_two(Index i, const double* v, const std::uint8_t* free,
                           Scratch& scratch) const;
  virtual Claim claim(Index i, const double* v, const std::uint8_t* free, Scratch& scratch) const;
  virtual void relax(Index i, double base, PathState& state, Scratch& scratch) const;
  virtual void lower(Index i, double u, double* least, Scratch& scratch) const;
  virtual bool on_grid(Index i, double grid, Scratch& scratch) const;
};

}  // namespace bmatch
