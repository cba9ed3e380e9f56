// The assignment problem with few allowed pairs, in memory and time that go by their number.
//
// The dual, the certificate and what is exact are those of assignment/solver.h.  There a row is a
// list of candidates and a bound on the rest; here the list is the row.  Stages:
//   1. row reduction from price zero (auction.h);
//   2. square, and many rows are free: auctions with falling epsilon.  Rows that an auction leaves
//      free are matched along shortest paths (forest.h), where prices would climb by epsilons
//      without an end; they also find out whether there is a complete matching at all;
//   3. rows whose edges are not tight are set free, row reduction again, and shortest paths for
//      what is left: from all free rows at once if square, one after the other if not.
// Every stage has a budget but the paths, of which there are no more than free rows.  Where prices
// dwarf the answer it is kept if its least prices prove it (least_prices.h), or else found again by
// plain.h.
//
// Time O(rows entries log cols) at worst.  Memory beside the entries: 12 bytes an entry, about
// 100 a row.
#pragma once

#include "assignment/solver.h"
#include "costs.h"

namespace bmatch::sparse {

struct Solution {
  Outcome outcome;
  Matching matching;
  std::vector<Position> entry;        // [rows], of the matched pairs
  std::vector<double> u;              // [rows]
  double objective = 0.0, gap = 0.0;  // of the minimised costs
  std::vector<Index> trapped;         // if infeasible: rows too many for their columns
  Stats stats;
};

// No more rows than columns.  Under a limit of the costs, rows may have no column: what is least is
// then the sum of the matched costs and of the limit for each of these, and duals are as in
// assignment/partial.h.
Solution solve(const Costs& costs, const Interrupted& interrupted);

}  // namespace bmatch::sparse
