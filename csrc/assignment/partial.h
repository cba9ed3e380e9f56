// Assignments that may leave rows and columns unmatched.
//
// Unmatched rows have no column in the Solution that is returned.  Costs have no more rows than
// columns, as for solve().
#pragma once

#include "solver.h"

namespace bmatch {

// What may stay unmatched.
struct Partial {
  double limit = kInfinity;  // every row, at this cost; no pair costs more
  bool most = false;         // where there is no complete assignment: as few as possible
};

// The solution that leaves rows out so; the one of solve() if `partial` says nothing.
//
// Under a limit the sum of the matched costs, and of the limit for each row that stays out, is
// least; the limit alone decides then.  Duals have u <= limit, with equality for rows that stay
// out, and v <= 0, with equality for columns that do.  Otherwise the pairs are as many as can be,
// and of those the cheapest; duals are those of the three blocks of maximum_matching.h, each of
// which is a problem of its own: they prove nothing between blocks, where no such assignment has a
// pair.
Solution solve_partial(const RowScanner& costs, const Partial& partial, const Options& options,
                       const Interrupted& interrupted);

}  // namespace bmatch
