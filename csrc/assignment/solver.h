// The linear assignment problem, solved exactly.
//
// Problem.  Given costs c_ij for `rows` <= `cols`, find distinct columns col_of_row[i] that
// minimise sum_i c_{i, col_of_row[i]}.  +infinity marks a forbidden edge.
//
// Dual.  Maximise sum_i u_i + sum_j v_j subject to u_i + v_j <= c_ij, with v <= 0 if there are
// more columns than rows.  u is never stored while solving: u_i = min_j (c_ij - v_j).  A matching
// is optimal if every matched edge is tight, c_ij - v_j = u_i, and unmatched columns have v_j = 0
// (or the matrix is square).
//
// Method.  Most of the time of a dense solver goes into reading the matrix, and most of what it
// reads cannot matter.  So each row is read once, and its cheapest 16 or so columns are kept in a
// list with a bound on all others (candidates.h).  Prices only fall, so the bound stays true, and a
// row is read again only when its bound is reached.  Over the lists run
//   1. a greedy start on the row minima; on well separated matrices it is already optimal;
//   2. row reduction (auction.h), which ends by itself or is left when fewer and fewer bids find a
//      free column;
//   3. an auction with epsilon scaling, if more than a few rows are free (scaling.h);
//   4. shortest augmenting paths for the rows still free, exact from any prices (list_paths.h).
// Lists hold the truth about the few best columns of a row: also of a row most of whose costs are
// one number, if few are less.  Where that is not what decides, as where the least costs tie, and
// where all rows want the same columns, whole rows do better, as in the dense algorithm of Jonker
// and Volgenant (dense_paths.h): from the rows' minima, from the columns' own minima, or from
// regrets (regret_start.h).  Two things keep its paths short where many costs are alike.  Rows
// that would take many columns at the same cost wait until the others are matched, and take what is
// left.  And paths begin at the free rows and at the free columns in turns (two_sided_paths.h):
// what is a plateau from one side is a few entries from the other.  Small matrices begin there
// (small.h), and those of few hundred rows are handed on where paths begin to lead through all that
// is near: then lists hold it, and end at the plateau.
//
// Guarantee.  Which of these is the quickest cannot be known beforehand, and samples (samples.h)
// only set the order.  So each stage counts what it does, in reads of rows, and has a share of it
// (policy.h): a fixed number of times the rows, or a small part of what dense paths may take; and
// those over whole rows that come first give up as soon as their first paths let it expect that all
// would take more.  What is left is matched by dense paths from both sides, which come to an end
// for certain: each turn may read four times as much as the one before, so that all together read
// some 20 times what the better side alone would at most, and a few times as a rule.  Where a copy
// of the columns would be too large they begin at the free rows alone.  A solve of a square matrix
// therefore reads at most some 200 + rows / 4 times as many rows as there are beyond those of these
// last paths, of which one side may need rows^2.  A path that reaches the end of a list looks for
// its own free column first, as dense ones do, so that ties at the bound end it.
//
// Exactness.  Prices are float64 whatever the costs are; reduced costs are fl(c_ij - v_j), the same
// expression everywhere, so "tight" and "below the bound" are exact comparisons.  Prices of an
// auction can grow far above the objective where costs span many orders of magnitude, and then
// rounding at the scale of a price outweighs the answer.  Where max |v| 2^-50 exceeds 1e-10 of the
// mean |c_ij| of matched pairs, the answer is kept if it can be proved all the same: by the rows'
// least costs or by a grid (exactness_rule.h), or by the least prices that belong to it
// (least_prices.h), which are small where those of the way to it were not.  Else the problem is
// solved again over whole rows, whose prices are smaller, and if that does not help by
// plain_paths.h.  Where sums may have passed float64's range, it is solved again on a smaller scale
// (huge_costs.h).  certify.h recomputes the duals from the answer and bounds its error.
//
// Rectangular.  In row reduction and shortest paths from zero prices a matched column stays
// matched, so unmatched columns keep price zero and no padding is needed.  Where rows want the same
// columns, those paths would go through all of them: then the columns that will be taken have
// prices first (column_prices.h), and what is spare of them in the end comes back to zero by paths
// from the columns (spare_columns.h).  So it does after epsilon scaling, which there leaves prices
// to columns that nobody has.
//
// Determinism.  Answers do not depend on the number of threads or on the run.  Among equal answers
// lower columns are preferred; a constant matrix gives the identity.
//
// Time O(rows^2 cols) at worst; near one read of the matrix in practice.  Memory beyond the
// matrix: 450 bytes a row and 50 a column; 3.2 MB at most for float64 copies of a small one, by
// rows and by columns; of a square one up to kMostCopied entries, a copy of the columns that are
// searched from, at worst of all. A thread keeps up to 32 MB of it for its next solve (reused.h).
#pragma once

#include <cstdint>
#include <vector>

#include "assignment/rows/row_scanner.h"
#include "matching.h"
#include "policy.h"
#include "stats.h"

namespace bmatch {

enum class Outcome { optimal, infeasible, invalid, interrupted };

struct Options {
  int threads = 1;                              // negative: as many for large matrices only
  bool certificate = true;                      // otherwise u, objective and gap are left out
  const std::vector<double>* prices = nullptr;  // [cols], of a similar problem
  bool transposed = false;                      // square, and the caller's rows are the columns
  std::int64_t small = kSmall;                  // up to so many entries no lists are made
  bool nested = false;                          // rows are the columns of a matrix that is solved
};

struct Solution {
  Outcome outcome;
  Matching matching;
  std::vector<double> u;              // [rows]
  double objective = 0.0, gap = 0.0;  // of the minimised costs
  std::vector<Index> trapped;         // if infeasible: rows too many for their columns
  Stats stats;
};

// Outcome::invalid means that a cost is NaN or -infinity.
Solution solve(const RowScanner& costs, const Options& options, const Interrupted& interrupted);

}  // namespace bmatch
