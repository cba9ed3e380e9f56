// Whether an answer is optimal although its prices dwarf it.
#pragma once

#include "assignment/rows/row_scanner.h"
#include "candidates.h"
#include "matching.h"

namespace bmatch {

// Whether rounding at the scale of the prices may outweigh the answer (solver.h).
bool prices_dwarf(const RowScanner& costs, const Matching& matching);

// Minima of all rows, if every row has its least cost, which proves the answer at prices of zero;
// empty otherwise.  Reads the rows whose least cost the lists, null if there are none, do not know.
ReusedVector<RowMinima> minima_if_matched(const Context& context, const CandidateLists* lists,
                                          ThreadTeam& team);

// True if all costs are multiples of a grid, a power of two, and no assignment can be better than
// this one by as much as a grid (exactness_rule.h); integers are the usual case.  Reads the matrix
// once, up to the first row that is off the grid.
bool exact_on_a_grid(const RowScanner& costs, const Matching& matching);

}  // namespace bmatch
