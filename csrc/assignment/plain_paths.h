// Shortest augmenting paths, one for each row in turn, from zero duals: the last resort where costs
// span more orders of magnitude than float64 holds.
//
// There sums of costs depend on their order, and with them the answer.  Duals of rows and columns
// are kept, reduced costs are fl(fl(fl(base + c_ij) - u_i) - v_j), and columns are tried in the
// order of SciPy's linear_sum_assignment, so that the answer is the one that everybody gets.
//
// D. F. Crouse, "On implementing 2D rectangular assignment algorithms", IEEE Transactions on
// Aerospace and Electronic Systems 52 (2016).
#pragma once

#include "context.h"

namespace bmatch {

// Matches all rows of a matrix that has a complete matching.  `transposed`: square, and the
// caller's rows are the columns here.
Step plain_paths(const Context& context, bool transposed);

}  // namespace bmatch
