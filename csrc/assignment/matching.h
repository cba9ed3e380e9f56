// What the stages of the solver hand to one another.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace bmatch {

constexpr std::int64_t kNone = -1;

// A partial matching and its column prices.  Invariant between stages: every matched edge
// is tight, that is, col_of_row[i] minimises c_ij - v_j over j.
struct Matching {
  std::vector<std::int64_t> col_of_row;  // [rows], kNone while free
  std::vector<std::int64_t> row_of_col;  // [cols], kNone while free
  std::vector<double> v;                 // [cols], column duals; never above 0

  Matching(std::int64_t rows, std::int64_t cols)
      : col_of_row(rows, kNone), row_of_col(cols, kNone), v(cols, 0.0) {}

  void match(std::int64_t i, std::int64_t j) {
    col_of_row[i] = j;
    row_of_col[j] = i;
  }
};

// Asked now and then by long loops; true means: give up at once.
using Interrupted = std::function<bool()>;

}  // namespace bmatch
