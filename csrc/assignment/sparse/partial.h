// Assignments of as many pairs as possible, and of those the cheapest.
#pragma once

#include "solver.h"

namespace bmatch::sparse {

// As solve(), where there is a complete assignment.  Otherwise rows have no column, as few as can
// be, and duals are those of the blocks, as in assignment/partial.h.  A greatest matching, which
// takes a fraction of a solve, says which of the two it is.
Solution solve_most(const Costs& costs, const Interrupted& interrupted);

}  // namespace bmatch::sparse
