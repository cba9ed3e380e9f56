#include "certify.h"

#include <algorithm>
#include <cstdint>

#include "rounding_error.h"
#include "sum.h"

namespace bmatch {
namespace {

// The least error of those columns of a list whose rounded c - v is u.
double least_error(const CandidateLists::List& list, const double* v, double u) {
  double least = kInfinity;
  for (int k = 0; k < list.size; ++k) {
    const double c = list.cost[k], price = v[list.col[k]];
    if (c - price == u) least = std::min(least, rounding_error(c, price));
  }
  return least;
}

// Duals and gap as rows are added.
class Builder {
 public:
  Builder(const RowScanner& costs, const Matching& matching)
      : costs_(costs), matching_(matching), u_(costs.rows()), slack_(costs.rows()) {}

  // The row's least reduced cost, whether two columns have it, and where the least error of those
  // that have it is found.
  template <typename F>
  void set(Index i, double u, bool tied, F least_error_of_row) {
    const Index j = matching_.col_of_row[i];
    const double c = costs_.cost(i, j), v = matching_.v[j];
    u_[i] = u;
    slack_[i] = (c - v) - u;
    if (tied || slack_[i] != 0.0) slack_[i] += rounding_error(c, v) - least_error_of_row();
  }

  double row_scan(Index i, RowScanner::Scratch& scratch) const {
    return costs_.least_error(i, matching_.v.data(), u_[i], scratch);
  }

  Certificate certificate() && {
    Sum objective, gap;
    for (Index i = 0; i < costs_.rows(); ++i) {
      objective.add(costs_.cost(i, matching_.col_of_row[i]));
      gap.add(slack_[i]);
    }
    if (costs_.rows() < costs_.cols()) {
      for (Index j = 0; j < costs_.cols(); ++j) {
        if (matching_.row_of_col[j] == kNone) gap.add(-matching_.v[j]);
      }
    }
    return {std::move(u_), objective.value(), gap.value()};
  }

 private:
  const RowScanner& costs_;
  const Matching& matching_;
  std::vector<double> u_, slack_;  // [rows]
};

}  // namespace

Certificate certify(const RowScanner& costs, const Matching& matching, ThreadTeam& team) {
  Builder builder(costs, matching);
  const std::vector<std::uint8_t> none_free(padded(costs.cols()) / 8, 0);
  parallel_rows(costs, team, 0, costs.rows(), [&](Index i, int count, auto& scratch) {
    for (const Index end = i + count; i < end; ++i) {
      const BestTwo b = costs.best_two(i, matching.v.data(), none_free.data(), scratch);
      builder.set(i, b.best, b.second == b.best, [&] { return builder.row_scan(i, scratch); });
    }
  });
  return std::move(builder).certificate();
}

Certificate certify(const RowScanner& costs, const Matching& matching, CandidateLists& lists) {
  Builder builder(costs, matching);
  RowScanner::Scratch scratch = costs.scratch();
  for (Index i = 0; i < costs.rows(); ++i) {
    const ListBest b = lists.best(i);
    builder.set(i, b.best, b.second == b.best, [&] {
      const CandidateLists::List list = lists.of(i);
      if (list.bound <= b.best) return builder.row_scan(i, scratch);
      return least_error(list, matching.v.data(), b.best);
    });
  }
  return std::move(builder).certificate();
}

Certificate certify(const RowScanner& costs, const Matching& matching, const RowMinima* minima) {
  Builder builder(costs, matching);
  for (Index i = 0; i < costs.rows(); ++i) {
    builder.set(i, minima[i].best, false, [] { return 0.0; });
  }
  return std::move(builder).certificate();
}

}  // namespace bmatch
