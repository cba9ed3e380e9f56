// A matrix whose rows are made, as one in memory.
#pragma once

#include <algorithm>

#include "row_scanner.h"

namespace bmatch {

// Its costs in float64, in `memory`.
inline AnyCostView copied(const RowScanner& costs, ReusedVector<double>& memory) {
  const std::int64_t rows = costs.rows(), cols = costs.cols();
  memory = ReusedVector<double>(static_cast<std::size_t>(rows * cols));
  RowScanner::Scratch scratch = costs.scratch();
  for (Index i = 0; i < costs.rows(); ++i) {
    std::copy_n(costs.row_costs(i, scratch), cols, memory.data() + i * cols);
  }
  return CostView<double>{memory.data(), rows, cols, cols, 1, Sense::minimize};
}

}  // namespace bmatch
