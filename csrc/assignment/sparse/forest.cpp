#include "forest.h"

#include <algorithm>

#include "assignment/policy.h"

namespace bmatch::sparse {

Forest::Forest(State& state)
    : state_(state),
      distance_(state.costs.cols, kInfinity),
      arrival_(state.costs.cols),
      predecessor_(state.costs.cols),
      root_(state.costs.cols),
      is_settled_(state.costs.cols, 0),
      goal_(state.costs.rows, kNone) {}

// Distances through row i.
void Forest::offer(Index i, double distance, Index root) {
  const Costs& costs = state_.costs;
  const double* const v = state_.matching.v.data();
  const double u = least_of(costs, i, v, state_.ceiling);
  const Position end = costs.start[i + 1];
  for (Position k = costs.start[i]; k < end; ++k) {
    if (!(distance + ((costs.cost[k] - state_.ceiling) - u) < limit_)) break;
    const Index j = costs.col[k];
    const double through = distance + ((costs.cost[k] - v[j]) - u);
    if (!(through < distance_[j]) || !(through < limit_)) continue;
    if (distance_[j] == kInfinity) reached_.push_back(j);
    distance_[j] = through;
    arrival_[j] = k;
    predecessor_[j] = i;
    root_[j] = root;
    const bool single = roots_.size() == 1;
    if (single && state_.matching.row_of_col[j] == kNone) limit_ = through;
    if (through <= at_) {
      level_.push_back(j);
    } else {
      heap_.push_back({through, j});
      std::push_heap(heap_.begin(), heap_.end());
    }
  }
}

void Forest::settle(Index j) {
  is_settled_[j] = 1;
  settled_.push_back(j);
  const Index i = state_.matching.row_of_col[j];
  if (i != kNone) {
    offer(i, distance_[j], root_[j]);
  } else if (goal_[root_[j]] == kNone) {
    goal_[root_[j]] = j;
    ++found_;
  }
}

// A tree that holds a free column grows no further at its distance before all others have grown:
// else one tree would take what ties, and the others' paths with it.
Step Forest::grow(std::int64_t wanted) {
  for (const Index i : roots_) offer(i, 0.0, i);
  for (std::int64_t turn = 1;; ++turn) {
    if (turn % kBidsATurn == 0 && state_.interrupted()) return Step::interrupted;
    Index j;
    if (!level_.empty()) {
      j = level_.back();
      level_.pop_back();
      if (!is_settled_[j] && goal_[root_[j]] != kNone) {
        put_off_.push_back(j);
        continue;
      }
    } else if (found_ >= wanted) {
      return Step::done;
    } else if (!put_off_.empty()) {
      j = put_off_.back();
      put_off_.pop_back();
    } else if (!heap_.empty()) {
      const Key key = heap_.front();
      std::pop_heap(heap_.begin(), heap_.end());
      heap_.pop_back();
      if (key.distance > distance_[key.col]) continue;  // reached more cheaply since
      at_ = key.distance;
      level_.push_back(key.col);
      continue;
    } else {
      return found_ > 0 ? Step::done : Step::infeasible;
    }
    if (!is_settled_[j]) settle(j);
  }
}

// From the end of the path back to the row it started at.
void Forest::flip(Index root) {
  for (Index j = goal_[root], i = kNone; i != root;) {
    i = predecessor_[j];
    const Index before = state_.matching.col_of_row[i];
    state_.matching.row_of_col[j] = i;
    state_.matching.col_of_row[i] = j;
    state_.entry[i] = arrival_[j];
    j = before;
  }
  ++state_.stats.augmentations;
}

Step Forest::augment(const std::vector<Index>& free_rows, std::int64_t wanted) {
  roots_ = free_rows;
  settled_.clear();
  reached_.clear();
  level_.clear();
  put_off_.clear();
  heap_.clear();
  found_ = 0;
  at_ = 0.0;
  limit_ = kInfinity;
  const Step step = grow(wanted);
  if (step == Step::done) {
    auto& v = state_.matching.v;
    for (const Index j : settled_) {
      if (distance_[j] < at_) v[j] += distance_[j] - at_;
    }
    for (const Index root : roots_) {
      if (goal_[root] != kNone) flip(root);
    }
  }
  for (const Index root : roots_) goal_[root] = kNone;
  for (const Index j : reached_) distance_[j] = kInfinity;
  for (const Index j : settled_) is_settled_[j] = 0;
  return step;
}

std::vector<Index> Forest::trapped() const {
  std::vector<Index> rows = roots_;
  for (const Index j : settled_) rows.push_back(state_.matching.row_of_col[j]);
  std::sort(rows.begin(), rows.end());
  return rows;
}

}  // namespace bmatch::sparse
