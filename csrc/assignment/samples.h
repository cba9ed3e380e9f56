// What a few entries tell of a matrix before it is read.
#pragma once

#include "assignment/rows/row_scanner.h"

namespace bmatch {

// Whether it seems to have so few distinct values that rows tie in more columns than lists hold.
bool has_few_values(const RowScanner& costs);

// Whether most entries seem to be below a limit.
bool most_are_below(const RowScanner& costs, double limit);

// Whether rows want the same columns while columns want different rows, as where columns differ in
// scale: then columns do better as rows.
bool rows_agree_more_than_columns(const RowScanner& costs);

}  // namespace bmatch
