#include "solver.h"

#include <cmath>
#include <limits>

#include "augment.h"
#include "certify.h"

namespace bmatch {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

bool is_valid(const double* cost, std::int64_t n) {
  bool valid = true;
  for (std::int64_t j = 0; j < n; ++j) valid &= cost[j] > -kInfinity;  // false for NaN too
  return valid;
}

// A free column among the row's minima, or kNone.  The lowest one, so that a constant
// matrix gives the identity.
std::int64_t free_minimum(const double* cost, const Matching& matching) {
  double least = kInfinity;
  std::int64_t column = kNone;
  for (std::size_t j = 0; j < matching.v.size(); ++j) {
    if (cost[j] < least) {
      least = cost[j];
      column = kNone;
    }
    if (cost[j] == least && column == kNone && least < kInfinity &&
        matching.row_of_col[j] == kNone) {
      column = static_cast<std::int64_t>(j);
    }
  }
  return column;
}

}  // namespace

Solution solve(const RowScanner& costs, const Interrupted& interrupted) {
  const std::int64_t rows = costs.rows(), cols = costs.cols();
  Solution solution{Status::optimal, Matching(rows, cols), {}};
  Matching& matching = solution.matching;
  auto ended = [&](Status status) {
    solution.status = status;
    return solution;
  };

  std::vector<double> scratch(cols);
  for (std::int64_t i = 0; i < rows; ++i) {
    if (interrupted()) return ended(Status::interrupted);
    const double* cost = costs.row(i, scratch.data());
    if (!is_valid(cost, cols)) return ended(Status::invalid);
    const std::int64_t j = free_minimum(cost, matching);
    if (j != kNone) matching.match(i, j);
  }

  PathFinder paths(costs, matching);
  for (std::int64_t i = 0; i < rows; ++i) {
    if (matching.col_of_row[i] != kNone) continue;
    if (interrupted()) return ended(Status::interrupted);
    if (!paths.augment(i)) {
      solution.trapped = paths.trapped();
      return ended(Status::infeasible);
    }
  }

  Certificate certificate = certify(costs, matching);
  solution.u = std::move(certificate.u);
  solution.objective = certificate.objective;
  solution.gap = certificate.gap;
  return solution;
}

}  // namespace bmatch
