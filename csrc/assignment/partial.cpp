#include "partial.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "assignment/rows/clamped_rows.h"
#include "assignment/rows/dense_scanner.h"
#include "assignment/rows/optional_rows.h"
#include "maximum_matching.h"
#include "samples.h"
#include "sum.h"

namespace bmatch {
namespace {

double matched_sum(const RowScanner& costs, const std::vector<Index>& col_of_row) {
  Sum sum;
  for (Index i = 0; i < costs.rows(); ++i) {
    if (col_of_row[i] != kNone) sum.add(costs.cost(i, col_of_row[i]));
  }
  return sum.value();
}

// ---- A limit -------------------------------------------------------------------------------

// Columns of their own leave entries above the limit out of account, but make the matrix
// rectangular; clamped, it is solved as it would be without a limit.
Solution solve_limited(const RowScanner& costs, double limit, Options options,
                       const Interrupted& interrupted) {
  const Index rows = costs.rows(), cols = costs.cols();
  const bool clamped =
      std::int64_t{rows} * cols <= options.small || (rows == cols && most_are_below(costs, limit));
  options.transposed &= clamped;
  Solution s = clamped ? solve(ClampedRows(costs, limit), options, interrupted)
                       : solve(OptionalRows(costs, limit), options, interrupted);
  if (s.outcome != Outcome::optimal) return s;
  Matching matching(rows, cols);
  for (Index i = 0; i < rows; ++i) {
    const Index j = s.matching.col_of_row[i];
    if (j < cols && costs.cost(i, j) <= limit) matching.match(i, j);
  }
  std::copy_n(s.matching.v.begin(), cols, matching.v.begin());
  double most = 0.0;  // of a clamped square matrix only sums of two duals count
  if (clamped && rows == cols && cols > 0) {
    most = *std::max_element(matching.v.begin(), matching.v.begin() + cols);
    for (Index j = 0; j < cols; ++j) matching.v[j] -= most;
  }
  for (Index j = 0; j < cols; ++j) {  // where nobody is, rounding alone left a price
    if (matching.row_of_col[j] == kNone) matching.v[j] = 0.0;
  }
  if (options.certificate) {
    // A column of one row's own may have a price, though nobody else bid for it.
    for (Index i = 0; i < rows; ++i) {
      s.u[i] = matching.col_of_row[i] == kNone ? limit : std::min(s.u[i] + most, limit);
    }
  }
  s.matching = std::move(matching);
  s.objective = matched_sum(costs, s.matching.col_of_row);
  return s;
}

// ---- As many pairs as possible -------------------------------------------------------------

// The entries of a block, [rows, cols].
template <typename T>
std::vector<T> entries_of(const RowScanner& costs, const Block& block) {
  std::vector<T> entries;
  entries.reserve(block.rows.size() * block.cols.size());
  RowScanner::Scratch scratch = costs.scratch();
  for (const Index i : block.rows) {
    const T* const row = std::get<const T*>(costs.row(i, scratch.row()).entries);
    for (const Index j : block.cols) entries.push_back(row[j]);
  }
  return entries;
}

Solution solve_block(const RowScanner& costs, const Block& block, const Options& options,
                     const Interrupted& interrupted) {
  RowScanner::Scratch scratch = costs.scratch();
  const StoredRow first = costs.row(block.rows.front(), scratch.row());
  return std::visit(
      [&](const auto* row) {
        using T = std::remove_cv_t<std::remove_pointer_t<decltype(row)>>;
        const std::vector<T> entries = entries_of<T>(costs, block);
        const auto rows = static_cast<std::int64_t>(block.rows.size());
        const auto cols = static_cast<std::int64_t>(block.cols.size());
        const CostView<T> whole{entries.data(), rows, cols, cols, 1, first.sense};
        return solve(DenseScanner(rows <= cols ? whole : whole.transposed()), options, interrupted);
      },
      first.entries);
}

// In place of a solution that says that there is none.
Solution solve_blocks(const RowScanner& costs, Solution s, Options options,
                      const Interrupted& interrupted) {
  Blocks blocks;
  switch (find_blocks(costs, interrupted, blocks)) {
    case Step::invalid:
      s.outcome = Outcome::invalid;
      return s;
    case Step::interrupted:
      s.outcome = Outcome::interrupted;
      return s;
    default:
      break;
  }
  s.stats.row_reads += costs.rows();
  s.outcome = Outcome::optimal;
  s.matching = Matching(costs.rows(), costs.cols());
  s.u.assign(options.certificate ? costs.rows() : 0, 0.0);
  s.gap = 0.0;
  s.trapped.clear();
  options.prices = nullptr;
  options.transposed = false;
  for (const Block& block : blocks) {
    if (block.rows.empty() || block.cols.empty()) continue;
    const Solution part = solve_block(costs, block, options, interrupted);
    if (part.outcome != Outcome::optimal) {
      s.outcome = part.outcome;
      return s;
    }
    const bool tall = block.rows.size() > block.cols.size();
    const std::vector<Index>&rows = tall ? block.cols : block.rows,
          &cols = tall ? block.rows : block.cols;
    for (std::size_t k = 0; k < rows.size(); ++k) {
      const Index i = rows[k], j = cols[part.matching.col_of_row[k]];
      tall ? s.matching.match(j, i) : s.matching.match(i, j);
    }
    if (options.certificate) {
      std::vector<double>&u = tall ? s.matching.v : s.u, &v = tall ? s.u : s.matching.v;
      for (std::size_t k = 0; k < rows.size(); ++k) u[rows[k]] = part.u[k];
      for (std::size_t k = 0; k < cols.size(); ++k) v[cols[k]] = part.matching.v[k];
    }
    s.gap += part.gap;
    s.stats.add(part.stats);
  }
  s.objective = matched_sum(costs, s.matching.col_of_row);
  return s;
}

}  // namespace

Solution solve_partial(const RowScanner& costs, const Partial& partial, const Options& options,
                       const Interrupted& interrupted) {
  if (partial.limit < kInfinity) return solve_limited(costs, partial.limit, options, interrupted);
  Solution s = solve(costs, options, interrupted);
  if (s.outcome != Outcome::infeasible || !partial.most) return s;
  return solve_blocks(costs, std::move(s), options, interrupted);
}

}  // namespace bmatch
