// Whether an answer is optimal although its prices dwarf it.
#pragma once

#include "matching.h"
#include "assignment/rows/row_scanner.h"

namespace bmatch {

// True if all costs are multiples of a grid, a power of two, and no assignment can be better than
// this one by as much as a grid; integers are the usual case.  Reads the matrix once, up to the
// first row that is off the grid.
bool exact_on_a_grid(const RowScanner& costs, const Matching& matching);

}  // namespace bmatch
