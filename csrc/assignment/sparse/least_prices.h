// The least prices that prove a complete matching of a sparse matrix, from the matching alone:
// assignment/least_prices.h, over rows whose entries stand cheapest first.
#pragma once

#include "state.h"

namespace bmatch::sparse {

// Sets the prices of a complete matching to its least, and returns true; or leaves them as they
// are, if there seems to be a better matching or the visits of rows are spent.
bool least_prices(State& state);

}  // namespace bmatch::sparse
