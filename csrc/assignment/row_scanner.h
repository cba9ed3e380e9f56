// The one thing a cost matrix must be able to do for the solver: give up a row.
//
// Everything above this interface (paths, certificate, margins) is independent of where the
// rows come from: memory, a device, or factors from which they are recomputed.
#pragma once

#include <cstdint>

namespace bmatch {

class RowScanner {
 public:
  virtual ~RowScanner() = default;

  virtual std::int64_t rows() const = 0;
  virtual std::int64_t cols() const = 0;

  // The costs of row i, exact in float64, contiguous, [cols].  Either a pointer into the
  // matrix itself or `scratch` (at least [cols]) filled; valid until scratch is reused.
  virtual const double* row(std::int64_t i, double* scratch) const = 0;
};

}  // namespace bmatch
