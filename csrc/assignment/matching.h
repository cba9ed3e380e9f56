// What the stages of the solver hand to one another.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace bmatch {

// A row or a column.  Positions inside a matrix are 64-bit: rows * cols may pass 2^31.
using Index = std::int32_t;

constexpr Index kNone = -1;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Arrays over columns are filled up to a multiple of this, so that scans need no special end.
constexpr Index kPad = 16;
inline Index padded(Index n) { return (n + kPad - 1) / kPad * kPad; }

// A partial matching and its column prices.  Invariant between stages: every matched edge
// is tight, that is, col_of_row[i] minimises c_ij - v_j over j.
struct Matching {
  std::vector<Index> col_of_row;  // [rows], kNone while free
  std::vector<Index> row_of_col;  // [cols], kNone while free
  std::vector<double> v;          // [padded cols], column duals

  Matching(Index rows, Index cols)
      : col_of_row(rows, kNone), row_of_col(cols, kNone), v(padded(cols), 0.0) {}

  // Matches i to j; returns the row that j was matched to until now, which becomes free.
  Index match(Index i, Index j) {
    const Index displaced = row_of_col[j];
    if (displaced != kNone) col_of_row[displaced] = kNone;
    row_of_col[j] = i;
    col_of_row[i] = j;
    return displaced;
  }

  void unmatch(Index i) {
    row_of_col[col_of_row[i]] = kNone;
    col_of_row[i] = kNone;
  }
};

// The free columns of a matching as scans read them: [padded cols / 8], one bit a column.
inline std::vector<std::uint8_t> free_columns(const Matching& matching) {
  const auto cols = static_cast<Index>(matching.row_of_col.size());
  std::vector<std::uint8_t> free(padded(cols) / 8, 0);
  for (Index j = 0; j < cols; ++j) {
    if (matching.row_of_col[j] == kNone) free[j / 8] |= static_cast<std::uint8_t>(1 << j % 8);
  }
  return free;
}
inline void take_column(std::vector<std::uint8_t>& free, Index j) {
  free[j / 8] &= static_cast<std::uint8_t>(~(1 << j % 8));
}

// Asked now and then by long loops; true means: give up at once.
using Interrupted = std::function<bool()>;

// What a stage reports back.  `invalid`: a cost is NaN or -infinity.
enum class Step { done, budget_spent, infeasible, invalid, interrupted };

}  // namespace bmatch
