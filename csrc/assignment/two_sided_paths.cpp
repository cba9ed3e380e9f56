#include "two_sided_paths.h"

#include <algorithm>

#include "assignment/rows/column_scanner.h"
#include "policy.h"

namespace bmatch {

Matching turned(const Context& context) {
  const Matching& matching = context.matching;
  Matching other(context.costs.cols(), context.costs.rows());
  other.v = DensePaths(context).row_duals();
  other.col_of_row = matching.row_of_col;
  other.row_of_col = matching.col_of_row;
  return other;
}

namespace {

bool all_finite(const std::vector<double>& prices) {
  return std::all_of(prices.begin(), prices.end(), [](double v) { return v < kInfinity; });
}

}  // namespace

Step TwoSidedPaths::augment_all(DensePaths& rows, std::int64_t first, std::int64_t most,
                                bool hurries) {
  const bool may_turn = has_columns(context_.costs);
  std::int64_t reads = may_turn ? std::min(first, most) : most;
  Step step = may_turn && !hurries ? first_turn(rows, reads) : from_rows(rows, reads, hurries);
  std::int64_t left = most - reads;
  for (bool columns = true; step == Step::budget_spent && left > 0; columns = !columns) {
    reads = std::min(kMoreReads * reads, left);
    if (left != kUnlimited) left -= reads;
    if (!columns) {
      DensePaths rows_again(context_);
      step = from_rows(rows_again, reads, hurries);
      continue;
    }
    step = from_columns(reads, hurries);
    if (step == Step::infeasible) {  // the rows that compete are wanted
      DensePaths rows_again(context_);
      step = from_rows(rows_again, kUnlimited, false);
    }
  }
  return step;
}

Step TwoSidedPaths::first_turn(DensePaths& rows, std::int64_t reads) {
  const std::int64_t early = std::min(kEarlyReads * context_.costs.rows(), reads);
  const auto free = static_cast<std::int64_t>(rows.free_rows());
  const Step step = from_rows(rows, early, false);
  const std::int64_t done = free - static_cast<std::int64_t>(rows.free_rows());
  if (step != Step::budget_spent || is_below(done, free, kFewDone)) return step;
  return from_rows(rows, reads - early, false);
}

Step TwoSidedPaths::from_rows(DensePaths& rows, std::int64_t reads, bool hurries) {
  const Step step = rows.augment_all(reads, hurries);
  if (step == Step::infeasible) trapped_ = rows.trapped();
  return step;
}

Step TwoSidedPaths::from_columns(std::int64_t reads, bool hurries) {
  if (columns_ == nullptr) columns_ = columns_of(context_.costs);
  Matching other = turned(context_);
  if (!all_finite(other.v)) return Step::infeasible;  // a row without a finite cost
  const Context context{*columns_, other, context_.stats, context_.interrupted};
  const Step step = DensePaths(context).augment_all(reads, hurries);
  if (step == Step::done || step == Step::budget_spent) context_.matching = turned(context);
  return step;
}

}  // namespace bmatch
