#include "plain_paths.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

namespace bmatch {
namespace {

class PlainPaths {
 public:
  std::vector<double> u, v;
  std::vector<Index> col_of_row, row_of_col;

  PlainPaths(const RowScanner& costs, bool transposed)
      : u(costs.rows(), 0.0),
        v(costs.cols(), 0.0),
        col_of_row(costs.rows(), kNone),
        row_of_col(costs.cols(), kNone),
        costs_(costs),
        transposed_(transposed),
        rows_(costs.rows()),
        cols_(costs.cols()),
        scratch_(costs.scratch()),
        gathered_(transposed ? rows_ : 0),
        open_(cols_),
        predecessor_(cols_),
        distance_(cols_) {}

  bool augment(Index first) {
    std::iota(open_.rbegin(), open_.rend(), Index{0});
    std::fill(distance_.begin(), distance_.end(), kInfinity);
    passed_.clear();
    settled_.clear();
    Index left = cols_, i = first, end = kNone;
    double base = 0.0;
    while (end == kNone) {
      const double* c = row(i);
      if (i != first) passed_.push_back(i);
      Index nearest = kNone;
      double least = kInfinity;
      for (Index k = 0; k < left; ++k) {
        const Index j = open_[k];
        const double through = base + c[j] - u[i] - v[j];
        if (through < distance_[j]) {
          distance_[j] = through;
          predecessor_[j] = i;
        }
        if (distance_[j] < least || (distance_[j] == least && row_of_col[j] == kNone)) {
          least = distance_[j];
          nearest = k;
        }
      }
      base = least;
      if (base == kInfinity) return false;
      const Index j = open_[nearest];
      settled_.push_back(j);
      open_[nearest] = open_[--left];
      if (row_of_col[j] == kNone)
        end = j;
      else
        i = row_of_col[j];
    }
    u[first] += base;
    for (const Index r : passed_) u[r] += base - distance_[col_of_row[r]];
    for (const Index j : settled_) v[j] -= base - distance_[j];
    for (Index j = end, r = kNone; r != first;) {
      r = predecessor_[j];
      row_of_col[j] = r;
      std::swap(col_of_row[r], j);
    }
    return true;
  }

 private:
  const double* row(Index i) {
    if (!transposed_) return costs_.row_costs(i, scratch_);
    for (Index j = 0; j < rows_; ++j) gathered_[j] = costs_.cost(j, i);
    return gathered_.data();
  }

  const RowScanner& costs_;
  const bool transposed_;
  const Index rows_, cols_;
  RowScanner::Scratch scratch_;
  std::vector<double> gathered_;
  std::vector<Index> open_, passed_, settled_, predecessor_;
  std::vector<double> distance_;
};

}  // namespace

Step plain_paths(const Context& context, bool transposed) {
  const Index rows = context.costs.rows();
  PlainPaths paths(context.costs, transposed);
  for (Index i = 0; i < rows; ++i) {
    if (context.interrupted()) return Step::interrupted;
    if (!paths.augment(i)) return Step::infeasible;
    ++context.stats.augmentations;
  }
  context.stats.row_reads += rows;
  for (Index i = 0; i < rows; ++i) {
    const Index j = paths.col_of_row[i];
    if (transposed) {
      context.matching.match(j, i);
    } else {
      context.matching.match(i, j);
    }
  }
  const std::vector<double>& prices = transposed ? paths.u : paths.v;
  std::copy(prices.begin(), prices.end(), context.matching.v.begin());
  return Step::done;
}

}  // namespace bmatch
