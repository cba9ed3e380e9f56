// What a few entries tell of a matrix before it is read.
#pragma once

#include <functional>

#include "context.h"

namespace bmatch {

// Whether it seems to have so few distinct values that rows tie in more columns than lists hold.
bool has_few_values(const RowScanner& costs);

// Whether many rows of a sample, which are read, are least in a good part.
bool many_rows_are_plateaus(const Context& context);

// Whether, in most rows of such a sample, so few costs are less than the greatest that lists can
// hold them all.
bool few_are_below_plateaus(const Context& context);

// Whether most entries seem to be below a limit.
bool most_are_below(const RowScanner& costs, double limit);

// How the lines of a sample agree on where their least costs are.
struct Agreement {
  int collisions;  // of lines whose least cost stands where an earlier line has its own
  int plateaus;    // lines a good part of which, but not all, is least
  int flat;        // lines all of which are least
  int left;        // lines whose least costs all stand where earlier lines took one of theirs
};
struct Agreements {
  Agreement rows, columns;
  int count;  // lines of each

  // Whether columns do better as rows: where many columns are alike to most rows, or where rows
  // want the same columns while columns want different rows, as where columns differ in scale. Not
  // where nearly every row gets a column that is least.
  bool fewer_columns_are_plateaus() const;
  bool columns_differ_more() const;
  // Whether some rows are plateaus; and some rows or columns, flat ones too.
  bool has_plateaus() const;
  bool has_plateaus_either_way() const;
};
// cost(i, j) of a matrix of this shape.
Agreements agreements(Index rows, Index cols, const std::function<double(Index, Index)>& cost);

}  // namespace bmatch
