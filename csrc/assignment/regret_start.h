// A start for smooth costs, as products, where all rows want the same columns in the same order.
//
// Column prices first fall to the columns' own needs, v_j = min_i (c_ij - min_k c_ik).  Rows then
// choose free columns, those first that would lose most by their second best, as in Vogel's
// approximation of a transportation problem (N. V. Reinfeld, W. R. Vogel, Mathematical Programming,
// 1958).  Last, in the reverse order, every row lowers the prices of the columns that it would have
// liked better than its own, which others had chosen before it.  Six reads of the matrix; on
// products nearly all rows then have a column that is tight.
#pragma once

#include "context.h"

namespace bmatch {

// From an empty matching; done, invalid or interrupted.  Unless so many rows
// (kMostTight) come to a column that is tight that the rest is soon found, the matching is empty
// again, at the first of these prices.
Step regret_start(const Context& context);

}  // namespace bmatch
