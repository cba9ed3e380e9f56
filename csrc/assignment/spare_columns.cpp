#include "spare_columns.h"

#include <algorithm>

#include "assignment/rows/column_scanner.h"
#include "policy.h"

namespace bmatch {

SpareColumns::SpareColumns(const Context& context)
    : context_(context), matching_(context.matching) {
  for (Index j = 0; j < context.costs.cols(); ++j) {
    if (matching_.row_of_col[j] == kNone && matching_.v[j] < 0.0) spare_.push_back(j);
  }
}

Step SpareColumns::raise(std::int64_t reads) {
  const Index rows = context_.costs.rows(), padded_rows = padded(rows);
  columns_ = columns_of(context_.costs);
  left_ = reads;
  u_.assign(padded_rows, -kInfinity);
  paid_.assign(padded_rows, kInfinity);
  distance_.assign(padded_rows, kInfinity);
  predecessor_.assign(padded_rows, kNone);
  free_.assign(padded_rows / 8, 0);
  scratch_ = std::make_unique<RowScanner::Scratch>(columns_->scratch());
  state_.price = u_.data();
  state_.distance = distance_.data();
  state_.predecessor = predecessor_.data();
  state_.free = free_.data();
  for (Index i = 0; i < rows; ++i) {
    const Index j = matching_.col_of_row[i];
    u_[i] = context_.costs.cost(i, j) - matching_.v[j];
    paid_[i] = -matching_.v[j];
  }
  for (const Index j : spare_) {
    if (const Step step = raise(j); step != Step::done) return step;
  }
  for (Index i = 0; i < rows; ++i) {
    const Index j = matching_.col_of_row[i];
    matching_.v[j] = std::min(context_.costs.cost(i, j) - u_[i], 0.0);
  }
  return Step::done;
}

void SpareColumns::raise_all_paid() {
  const Index rows = context_.costs.rows();
  const double least = *std::min_element(paid_.begin(), paid_.begin() + rows);
  if (!(least > 0.0)) return;
  for (Index i = 0; i < rows; ++i) {
    u_[i] -= least;
    paid_[i] -= least;
  }
}

// Over the rows that are reached, and which it is.
double SpareColumns::nearest_end(Index& row) const {
  double nearest = kInfinity;
  for (std::size_t i = 0; i < distance_.size(); ++i) {
    nearest = std::min(nearest, distance_[i] + paid_[i]);
  }
  row = 0;
  while (distance_[row] + paid_[row] > nearest) ++row;
  return nearest;
}

Step SpareColumns::raise(Index spare) {
  raise_all_paid();
  settled_.clear();
  state_.free_distance = kInfinity;
  state_.free_col = kNone;
  double length = -matching_.v[spare];  // to an end: at first, its own price zero
  Index end = kNone;                    // otherwise the row whose column it is
  double base = length;
  Step step = Step::done;
  for (Index j = spare;;) {
    if (left_-- <= 0) {
      step = Step::budget_spent;
      break;
    }
    if (++context_.stats.row_reads % kReadsATurn == 0 && context_.interrupted()) {
      step = Step::interrupted;
      break;
    }
    columns_->relax(j, base, state_, *scratch_);
    if (!(state_.open_distance < length)) break;
    Index row;
    const double nearest = nearest_end(row);
    if (nearest < length) {
      length = nearest;
      end = row;
      if (!(state_.open_distance < length)) break;
    }
    const Index i = state_.open_col;
    settled_.push_back({i, u_[i], state_.open_distance});
    u_[i] = -kInfinity;
    distance_[i] = kInfinity;
    j = matching_.col_of_row[i];
    base = state_.open_distance + paid_[i];
  }
  for (const Settled& s : settled_) {  // rounding can make the path end before what it passed
    const double fall = step == Step::done ? std::min(s.distance - length, 0.0) : 0.0;
    u_[s.row] = s.u + fall;
    paid_[s.row] = std::max(paid_[s.row] + fall, 0.0);
  }
  std::fill(distance_.begin(), distance_.end(), kInfinity);
  if (step != Step::done) return step;
  const double left = std::max(-matching_.v[spare] - length, 0.0);
  if (end == kNone) {
    matching_.v[spare] = 0.0;
  } else {
    flip(spare, end, left);
  }
  return step;
}

// From the row at the path's end back to the spare column, of whose price so much is left.
void SpareColumns::flip(Index spare, Index row, double left) {
  ++context_.stats.augmentations;
  matching_.v[matching_.col_of_row[row]] = 0.0;
  matching_.unmatch(row);
  while (true) {
    const Index j = predecessor_[row], before = matching_.row_of_col[j];
    matching_.match(row, j);
    if (j == spare) break;
    paid_[row] = paid_[before];
    row = before;
  }
  paid_[row] = left;
}

}  // namespace bmatch
