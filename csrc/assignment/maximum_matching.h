// The greatest matchings of a matrix's finite entries, and the three blocks in which all of them
// lie.
//
//   A. L. Dulmage and N. S. Mendelsohn, "Coverings of bipartite graphs", Canadian Journal of
//   Mathematics 10 (1958); A. Pothen and C.-J. Fan, "Computing the block triangular form of a
//   sparse matrix", ACM Transactions on Mathematical Software 16 (1990), whose searches with
//   lookahead find the matching.
//
// Rows that alternating paths reach from unmatched rows compete for too few columns, columns that
// they reach from unmatched columns for too few rows, and the others match one another.  The
// columns of the first block and the rows of the other two cover all finite entries, and are as
// many as there are pairs (Koenig): each of them is matched within its block, whichever of the
// greatest matchings it is.
#pragma once

#include <array>
#include <vector>

#include "assignment/rows/row_scanner.h"
#include "matching.h"

namespace bmatch {

struct Block {
  std::vector<Index> rows, cols;  // ascending
};

// More rows than columns, as many, more columns than rows; any of them may be empty.
using Blocks = std::array<Block, 3>;

// Reads the matrix once, into one bit an entry.  Step::invalid if a cost is NaN or -infinity.
Step find_blocks(const RowScanner& costs, const Interrupted& interrupted, Blocks& blocks);

}  // namespace bmatch
