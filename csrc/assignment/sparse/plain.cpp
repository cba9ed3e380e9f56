#include "plain.h"

#include <algorithm>
#include <vector>

#include "assignment/policy.h"

namespace bmatch::sparse {
namespace {

class PlainPaths {
 public:
  explicit PlainPaths(State& state)
      : state_(state),
        u_(state.costs.rows, 0.0),
        distance_(state.costs.cols, kInfinity),
        arrival_(state.costs.cols),
        predecessor_(state.costs.cols),
        is_settled_(state.costs.cols, 0) {}

  Step augment(Index first) {
    Matching& matching = state_.matching;
    for (const Index j : reached_) {
      distance_[j] = kInfinity;
      is_settled_[j] = 0;
    }
    reached_.clear();
    settled_.clear();
    heap_.clear();
    double base = 0.0;
    Index i = first, end = kNone;
    while (end == kNone) {
      offer(i, base);
      Index j = kNone;
      while (j == kNone) {
        if (++turn_ % kBidsATurn == 0 && state_.interrupted()) return Step::interrupted;
        if (heap_.empty()) return Step::infeasible;
        std::pop_heap(heap_.begin(), heap_.end());
        if (!is_settled_[heap_.back().col]) j = heap_.back().col;
        heap_.pop_back();
      }
      base = distance_[j];
      is_settled_[j] = 1;
      settled_.push_back(j);
      i = matching.row_of_col[j];
      if (i == kNone) end = j;
    }
    u_[first] += base;
    for (const Index j : settled_) {
      if (j == end) continue;
      u_[matching.row_of_col[j]] += base - distance_[j];
      matching.v[j] -= base - distance_[j];
    }
    for (Index j = end, r = kNone; r != first;) {
      r = predecessor_[j];
      const Index before = matching.col_of_row[r];
      matching.row_of_col[j] = r;
      matching.col_of_row[r] = j;
      state_.entry[r] = arrival_[j];
      j = before;
    }
    ++state_.stats.augmentations;
    return Step::done;
  }

 private:
  struct Key {
    double distance;
    bool is_taken;  // free columns come first among equals
    Index col;
    friend bool operator<(const Key& a, const Key& b) {
      return a.distance != b.distance ? a.distance > b.distance : a.is_taken > b.is_taken;
    }
  };

  void offer(Index i, double base) {
    const Costs& costs = state_.costs;
    for (Position k = costs.start[i]; k < costs.start[i + 1]; ++k) {
      const Index j = costs.col[k];
      if (is_settled_[j]) continue;
      const double through = base + costs.cost[k] - u_[i] - state_.matching.v[j];
      if (!(through < distance_[j])) continue;
      if (distance_[j] == kInfinity) reached_.push_back(j);
      distance_[j] = through;
      arrival_[j] = k;
      predecessor_[j] = i;
      heap_.push_back({through, state_.matching.row_of_col[j] != kNone, j});
      std::push_heap(heap_.begin(), heap_.end());
    }
  }

  State& state_;
  std::vector<double> u_, distance_;
  std::vector<Position> arrival_;
  std::vector<Index> predecessor_;
  std::vector<std::uint8_t> is_settled_;
  std::vector<Index> reached_, settled_;
  std::vector<Key> heap_;
  std::int64_t turn_ = 0;
};

}  // namespace

Step plain_paths(State& state) {
  PlainPaths paths(state);
  for (Index i = 0; i < state.costs.rows; ++i) {
    const Step step = paths.augment(i);
    if (step != Step::done) return step;
  }
  return Step::done;
}

}  // namespace bmatch::sparse
