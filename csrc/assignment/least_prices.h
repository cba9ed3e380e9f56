// The least prices that prove a complete matching, from the matching alone.
//
// Bids and paths leave prices that depend on the way to the answer, and where a row has one good
// column and the next costs a million, they are a million.  The least prices p_k = -v_k >= 0 under
// which every row keeps its column are the greatest lengths of paths
//   p_k = max(0, p_j + c_ij - c_ik)   over all rows i, j the column of i,
// and those are of the scale of the costs that matter.  From prices of zero, rows lower those of
// all columns that they would rather have, and the rows of those columns come again.  Nearly every
// row comes once if those come first whose prices rise least from what they were: that is
// Dijkstra's order, but for rounding.  A cycle of positive length is a better answer, as is a path
// to a free column.
#pragma once

#include "context.h"

namespace bmatch {

// Sets the prices of a complete matching to its least, and returns true; or leaves them as they
// are, if there seems to be a better matching or the reads of rows are spent.
bool least_prices(const Context& context);

}  // namespace bmatch
