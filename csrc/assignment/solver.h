// The linear assignment problem, solved exactly.
//
// Given costs c_ij for `rows` <= `cols`, find distinct columns col_of_row[i] that minimise
// sum_i c_{i, col_of_row[i]}.  +infinity marks a forbidden edge.
//
// Method: row minima claim their columns at price zero, then each row left free is matched
// by a shortest augmenting path (augment.h).  The duals are float64 throughout; a final pass
// (certify.h) recomputes the row duals and bounds the error of the answer.
//
// Prices start at zero and only ever fall, and a matched column stays matched.  So unmatched
// columns keep price zero, which is what makes the answer optimal when there are more
// columns than rows, without padding.
//
// Time O(rows^2 cols), memory O(rows + cols) beyond the matrix.
#pragma once

#include <cstdint>
#include <vector>

#include "matching.h"
#include "row_scanner.h"

namespace bmatch {

enum class Status { optimal, infeasible, invalid, interrupted };

struct Solution {
  Status status;
  Matching matching;
  std::vector<double> u;              // [rows]
  double objective = 0.0, gap = 0.0;  // of the minimised costs
  std::vector<std::int64_t> trapped;  // if infeasible: rows too many for their columns
};

// Status::invalid means that a cost is NaN or -infinity.
Solution solve(const RowScanner& costs, const Interrupted& interrupted);

}  // namespace bmatch
