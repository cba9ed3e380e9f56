#include "huge_costs.h"

#include <algorithm>
#include <cmath>
#include <variant>

namespace bmatch {
namespace {

// Sums of 2^31 such numbers, and some more of those sums, are finite.
constexpr double kHuge = 0x1p959;
constexpr double kDown = 0x1p-64, kUp = 0x1p64;

bool is_huge(double x) { return !(std::fabs(x) < kHuge); }

bool any_cost_is_huge(const RowScanner& costs) {
  RowScanner::Scratch scratch = costs.scratch();
  if (costs.rows() == 0 || costs.cols() == 0) return false;
  if (!std::holds_alternative<const double*>(costs.row(0, scratch.row()).entries)) return false;
  for (Index i = 0; i < costs.rows(); ++i) {
    const double* const c = costs.row_costs(i, scratch);
    const auto huge = [](double x) { return is_huge(x) && std::isfinite(x); };
    if (std::any_of(c, c + costs.cols(), huge)) return true;
  }
  return false;
}

}  // namespace

bool may_have_overflowed(const RowScanner& costs, const Solution& found) {
  switch (found.outcome) {
    case Outcome::optimal:
      break;
    case Outcome::interrupted:
      return false;
    case Outcome::infeasible:
    case Outcome::invalid:
      return any_cost_is_huge(costs);
  }
  const Matching& matching = found.matching;
  bool huge = false;  // asked for all: it hardly ever ends early
  for (Index j = 0; j < costs.cols(); ++j) huge |= is_huge(matching.v[j]);
  for (Index i = 0; i < costs.rows(); ++i) huge |= is_huge(costs.cost(i, matching.col_of_row[i]));
  return huge;
}

ScaledDown::ScaledDown(const RowScanner& costs, const Options& options) : costs_(costs) {
  const std::int64_t rows = costs.rows(), cols = costs.cols();
  if (rows * cols > options.small) return;
  std::unique_ptr<double[]> copy(new double[static_cast<std::size_t>(rows * cols)]);
  for (Index i = 0; i < rows; ++i) row(i, copy.get() + i * cols);
  copy_ = std::move(copy);
}

StoredRow ScaledDown::row(Index i, double* room) const {
  if (copy_ != nullptr) return {copy_.get() + std::int64_t{i} * cols(), Sense::minimize};
  Scratch scratch = costs_.scratch();
  const double* const c = costs_.row_costs(i, scratch);
  for (Index j = 0; j < cols(); ++j) room[j] = c[j] * kDown;
  return {room, Sense::minimize};
}

double ScaledDown::cost(Index i, Index j) const { return costs_.cost(i, j) * kDown; }

AnyCostView ScaledDown::whole() const {
  return CostView<double>{copy_.get(), rows(), cols(), cols(), 1, Sense::minimize};
}

void ScaledDown::scale_back(Solution& solution) {
  std::vector<double>&u = solution.u, &v = solution.matching.v;
  const auto cols = static_cast<std::ptrdiff_t>(solution.matching.row_of_col.size());
  double middle = 0.0;
  if (solution.matching.col_of_row.size() == solution.matching.row_of_col.size() && cols > 0) {
    const auto [least, greatest] = std::minmax_element(v.begin(), v.begin() + cols);
    if (std::isinf(*least * kUp) || std::isinf(*greatest * kUp)) middle = (*least + *greatest) / 2;
  }
  for (double& price : v) price = (price - middle) * kUp;
  for (double& dual : u) dual = (dual + middle) * kUp;
  solution.objective *= kUp;
  solution.gap *= kUp;
}

}  // namespace bmatch
