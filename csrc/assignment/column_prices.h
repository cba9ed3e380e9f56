// Prices that columns have before any row bids for them.
//
// Where rows want the same columns, what these cost over all others is known from the columns
// alone: v_j = min_i (c_ij - u_i).  Of a matrix with more columns than rows only the columns that
// will be taken have a price, and which they are is not known: those that are cheapest by this
// measure, somewhat fewer than there are rows, are given theirs as if the next one were free.  What
// nobody takes of them in the end comes back to zero (spare_columns.h).
#pragma once

#include <vector>

#include "matching.h"

namespace bmatch {

// From least_j = min_i (c_ij - u_i), [cols] at least; infinite in a column without a finite cost,
// which keeps price zero.  None is above zero.
void set_column_prices(Matching& matching, const std::vector<double>& least);

}  // namespace bmatch
