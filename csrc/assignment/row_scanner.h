// The one thing a cost matrix must be able to do for the solver: have its rows scanned
// against prices.
//
// Everything above this interface (lists, auction, paths, certificate, margins) is independent of
// where the rows come from: memory, a device, or factors from which they are recomputed.  A
// new kind of matrix need only give exact float64 rows; it overrides the scans it can do better.
//
// All methods are const and may run in several threads at once, each with a scratch of its own.
#pragma once

#include <vector>

#include "row_kernels.h"

namespace bmatch {

class RowScanner {
 public:
  // Room for one row, one a thread.
  using Scratch = std::vector<double>;

  virtual ~RowScanner() = default;

  virtual Index rows() const = 0;
  virtual Index cols() const = 0;
  Scratch scratch() const { return Scratch(padded(cols())); }

  // The costs of row i, exact in float64, contiguous, [cols].  Either a pointer into the
  // matrix itself or `scratch` (at least [cols]) filled; valid until scratch is reused.
  virtual const double* row(Index i, double* scratch) const = 0;
  virtual double cost(Index i, Index j) const = 0;

  // Solves the whole problem by the small solver (small.h).
  virtual Progress solve_small(SmallProblem& problem) const;

  // The scans of row_kernels.h on row i.
  virtual RowMinima minima(Index i, Scratch& scratch) const;
  virtual void candidates(Index i, PriceView prices, Index start, CandidateRow& out,
                          Scratch& scratch) const;
  virtual BestTwo best_two(Index i, const double* v, const std::uint8_t* free,
                           Scratch& scratch) const;
  virtual void relax(Index i, double base, PathState& state, Scratch& scratch) const;
  virtual void lower(Index i, double u, double* least, Scratch& scratch) const;
  virtual bool widen(Index i, double* out, Scratch& scratch) const;
};

}  // namespace bmatch
