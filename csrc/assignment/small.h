// Small matrices: the whole solve over rows that stay in the caches, read where they are as long as
// few of them meet, else copied to float64.
//
// Row minima claim free columns; prices of free columns rise to their own minima (square matrices,
// unless few costs of a row are near its least), or those of all columns to their least costs where
// that is a greater dual, and rows claim again; rows still free bid, a few times each; what is left
// is matched by shortest augmenting paths over whole rows.  See dense_paths.h for the references.
// Rows that are plateaus wait for the others, and paths of square matrices begin at both sides in
// turns, as in two_sided_paths.h, first at the one that ties less.  Matrices on which nearly all
// rows stay free before they bid are handed on (Step::budget_spent), if they may be.
#pragma once

#include "matching.h"
#include "assignment/rows/row_scanner.h"
#include "stats.h"

namespace bmatch {

struct SmallAnswer {
  Step step;
  bool dwarfed;                // by its prices, whose rounding may outweigh it (solver.h)
  std::vector<Index> trapped;  // after Step::infeasible
};

SmallAnswer solve_small(const RowScanner& costs, Matching& matching, Stats& stats,
                        bool may_hand_on);

}  // namespace bmatch
