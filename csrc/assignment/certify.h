// The certificate: row duals for given column prices, and a bound on what is lost.
//
// For any prices v and u_i = min_j (c_ij - v_j), the duals (u, v) are feasible, so
// sum u + sum v bounds every complete matching from below (with v <= 0 and v = 0 on
// unmatched columns where there are more columns than rows).  The gap is taken as the sum of
// the matched edges' reduced costs, never as the difference of two large sums.
//
// Two columns of a row may be tight as reduced costs are rounded, and differ all the same; then a
// matching that is tight everywhere can be a rounding worse than another.  So a reduced cost of the
// gap is c_ij - v_j less the least of the row, both exact.  Rounding keeps order: the exact least
// is among the columns that have the rounded least.
#pragma once

#include <vector>

#include "candidates.h"
#include "matching.h"
#include "assignment/rows/parallel.h"
#include "assignment/rows/row_scanner.h"

namespace bmatch {

struct Certificate {
  std::vector<double> u;  // [rows], min_j fl(c_ij - v_j)
  double objective;       // sum of the matched costs
  double gap;             // objective - dual objective, >= 0; 0 proves optimality
};

// Reads the matrix, in a team's threads.  Every row must be matched.
Certificate certify(const RowScanner& costs, const Matching& matching, ThreadTeam& team);

// The same from lists, and rows of those that hold too little.
Certificate certify(const RowScanner& costs, const Matching& matching, CandidateLists& lists);

// The same from row minima, for prices of zero.
Certificate certify(const RowScanner& costs, const Matching& matching, const RowMinima* minima);

}  // namespace bmatch
