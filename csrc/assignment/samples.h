// What a few entries tell of a matrix before it is read.
#pragma once

#include "assignment/rows/row_scanner.h"

namespace bmatch {

// Whether it seems to have so few distinct values that rows tie in more columns than lists hold.
bool has_few_values(const RowScanner& costs);

// Whether most entries seem to be below a limit.
bool most_are_below(const RowScanner& costs, double limit);

// How the lines of a sample agree on where their least costs are.
struct Agreement {
  int collisions;  // of lines whose least cost stands where an earlier line has its own
  int plateaus;    // lines a good part of which, but not all, is least
};
struct Agreements {
  Agreement rows, columns;
  int count;  // lines of each

  // Whether columns do better as rows: rows want the same columns while columns want different
  // rows, as where columns differ in scale, or many columns are alike to most rows.
  bool columns_differ_more() const;
};
Agreements agreements(const RowScanner& costs);

}  // namespace bmatch
