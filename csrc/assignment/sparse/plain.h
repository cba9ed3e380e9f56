// Shortest augmenting paths over sparse rows, one for each row in turn, from zero duals: the last
// resort where costs span more orders of magnitude than float64 holds (assignment/plain_paths.h).
//
// D. F. Crouse, "On implementing 2D rectangular assignment algorithms", IEEE Transactions on
// Aerospace and Electronic Systems 52 (2016); with a heap.
#pragma once

#include "state.h"

namespace bmatch::sparse {

// Matches all rows of a matrix that has a complete matching; the matching given is empty and its
// prices are zero.
Step plain_paths(State& state);

}  // namespace bmatch::sparse
