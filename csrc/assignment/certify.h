// The certificate: row duals for given column prices, and a bound on what is lost.
//
// For any prices v and u_i = min_j (c_ij - v_j), the duals (u, v) are feasible, so
// sum u + sum v bounds every complete matching from below (with v <= 0 and v = 0 on
// unmatched columns where there are more columns than rows).  The gap is taken as the sum of
// the matched edges' reduced costs, never as the difference of two large sums.
#pragma once

#include <vector>

#include "matching.h"
#include "assignment/rows/parallel.h"
#include "assignment/rows/row_scanner.h"

namespace bmatch {

struct Certificate {
  std::vector<double> u;  // [rows], exactly min_j (c_ij - v_j)
  double objective;       // sum of the matched costs
  double gap;             // objective - dual objective, >= 0; 0 proves optimality
};

// Reads the matrix once, in a team's threads.  Every row must be matched.
Certificate certify(const RowScanner& costs, const Matching& matching, ThreadTeam& team);

// The same from row duals that are known already.
Certificate certificate_of(const RowScanner& costs, const Matching& matching,
                           std::vector<double> u);

}  // namespace bmatch
