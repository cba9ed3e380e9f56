// What the stages of one solve share.
#pragma once

#include "matching.h"
#include "assignment/rows/row_scanner.h"
#include "stats.h"

namespace bmatch {

struct Context {
  const RowScanner& costs;
  Matching& matching;
  Stats& stats;  // where all work is counted
  const Interrupted& interrupted;
};

}  // namespace bmatch
