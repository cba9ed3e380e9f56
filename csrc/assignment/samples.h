// What a few entries tell of a matrix before it is read.
#pragma once

#include <optional>

#include "assignment/rows/row_scanner.h"

namespace bmatch {

// Whether it seems to have so few distinct values that rows tie in more columns than lists hold.
bool has_few_values(const RowScanner& costs);

// The largest entry of a sample, if most entries are equal to it, a stand-in for a forbidden pair
// as it were, and more than a few lower ones stand between them.
std::optional<double> forbidding_cost(const RowScanner& costs);

// Whether most entries of a sample are below a limit.
bool most_are_below(const RowScanner& costs, double limit);

}  // namespace bmatch
