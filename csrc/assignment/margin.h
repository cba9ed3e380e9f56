// How much the objective would lose if a row had to take another column.
//
// With reduced costs r_ij = c_ij - u_i - v_j >= 0 of an optimal matching, the loss is the
// length of the shortest alternating cycle through the row's matched edge: row i moves to
// another column, the row displaced there moves on, until the column that i left is taken.
// Where columns are to spare, think of spare rows of cost zero that hold the unmatched ones;
// being alike, they are one node.  Dijkstra from row i settles it; the cheapest way into the
// column that i left bounds what remains, so that a clear match settles after a few steps.
#pragma once

#include <cstdint>
#include <vector>

#include "matching.h"
#include "assignment/rows/row_scanner.h"

namespace bmatch {

struct Margins {
  std::vector<double> loss;          // [rows], exact, or a valid lower bound where not exact
  std::vector<unsigned char> exact;  // [rows], 1 where the search was finished
};

// At most `search_limit` rows are read for one row's margin.  Rows must not outnumber
// columns.  Empty result if interrupted.
Margins margins(const RowScanner& costs, const Matching& matching, const std::vector<double>& u,
                std::int64_t search_limit, const Interrupted& interrupted);

}  // namespace bmatch
