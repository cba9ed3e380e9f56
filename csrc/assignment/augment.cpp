#include "augment.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace bmatch {

namespace {
constexpr double kInfinity = std::numeric_limits<double>::infinity();
}

PathFinder::PathFinder(const RowScanner& costs, Matching& matching)
    : costs_(costs),
      matching_(matching),
      distance_(costs.cols()),
      scratch_(costs.cols()),
      predecessor_(costs.cols()) {
  open_.reserve(costs.cols());
  settled_.reserve(costs.cols());
}

// Distances of open columns through `row`, whose own distance less its dual is `base`.
void PathFinder::relax(std::int64_t row, double base) {
  const double* cost = costs_.row(row, scratch_.data());
  for (const std::int64_t j : open_) {
    const double through = base + (cost[j] - matching_.v[j]);
    if (through < distance_[j]) {
      distance_[j] = through;
      predecessor_[j] = row;
    }
  }
}

bool PathFinder::augment(std::int64_t free_row) {
  const std::int64_t cols = costs_.cols();
  start_ = free_row;
  settled_.clear();
  open_.resize(cols);
  std::iota(open_.begin(), open_.end(), 0);
  std::fill(distance_.begin(), distance_.end(), kInfinity);
  relax(free_row, 0.0);

  std::int64_t sink = kNone;
  while (true) {
    // Nearest open column; a free one wins a tie (the path ends sooner), then the lower.
    std::size_t nearest = open_.size();
    double best = kInfinity;
    std::int64_t best_col = kNone;
    bool best_is_free = false;
    for (std::size_t k = 0; k < open_.size(); ++k) {
      const std::int64_t j = open_[k];
      if (distance_[j] > best || distance_[j] == kInfinity) continue;
      const bool is_free = matching_.row_of_col[j] == kNone;
      const bool wins = distance_[j] < best || (is_free && !best_is_free) ||
                        (is_free == best_is_free && j < best_col);
      if (wins) {
        best = distance_[j];
        best_col = j;
        best_is_free = is_free;
        nearest = k;
      }
    }
    if (best_col == kNone) return false;
    if (best_is_free) {
      sink = best_col;
      break;
    }
    settled_.push_back(best_col);
    open_[nearest] = open_.back();
    open_.pop_back();

    const std::int64_t row = matching_.row_of_col[best_col];
    const double matched_cost = costs_.row(row, scratch_.data())[best_col];
    relax(row, best - (matched_cost - matching_.v[best_col]));
  }

  const double length = distance_[sink];
  for (const std::int64_t j : settled_) matching_.v[j] += distance_[j] - length;

  // Flip the path, from its end back to the row it started at.
  for (std::int64_t j = sink, row = kNone; row != free_row;) {
    row = predecessor_[j];
    matching_.row_of_col[j] = row;
    std::swap(matching_.col_of_row[row], j);
  }
  return true;
}

std::vector<std::int64_t> PathFinder::trapped() const {
  std::vector<std::int64_t> rows{start_};
  for (const std::int64_t j : settled_) rows.push_back(matching_.row_of_col[j]);
  std::sort(rows.begin(), rows.end());
  return rows;
}

}  // namespace bmatch
