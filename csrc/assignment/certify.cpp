#include "certify.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace bmatch {
namespace {

// Neumaier's compensated sum: the objective of n float64 terms to one rounding.
class Sum {
 public:
  void add(double x) {
    const double total = total_ + x;
    carry_ += std::fabs(total_) >= std::fabs(x) ? (total_ - total) + x : (x - total) + total_;
    total_ = total;
  }
  double value() const { return total_ + carry_; }

 private:
  double total_ = 0.0, carry_ = 0.0;
};

}  // namespace

Certificate certify(const RowScanner& costs, const Matching& matching) {
  const std::int64_t rows = costs.rows(), cols = costs.cols();
  std::vector<double> u(rows), scratch(cols);
  Sum objective, gap;
  for (std::int64_t i = 0; i < rows; ++i) {
    const double* cost = costs.row(i, scratch.data());
    double least = std::numeric_limits<double>::infinity();
    for (std::int64_t j = 0; j < cols; ++j) least = std::min(least, cost[j] - matching.v[j]);
    u[i] = least;
    const std::int64_t j = matching.col_of_row[i];
    objective.add(cost[j]);
    gap.add((cost[j] - matching.v[j]) - least);
  }
  for (std::int64_t j = 0; j < cols; ++j) {
    if (matching.row_of_col[j] == kNone) gap.add(-matching.v[j]);
  }
  return {std::move(u), objective.value(), gap.value()};
}

}  // namespace bmatch
