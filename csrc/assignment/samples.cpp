#include "samples.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "policy.h"

namespace bmatch {
namespace {

// How many distinct values there are: many, if one is NaN, which is for the first pass to refuse.
std::ptrdiff_t distinct(std::vector<double>& values) {
  constexpr auto kMany = std::numeric_limits<std::ptrdiff_t>::max();
  if (std::any_of(values.begin(), values.end(), [](double x) { return x != x; })) return kMany;
  std::sort(values.begin(), values.end());
  return std::unique(values.begin(), values.end()) - values.begin();
}

double greatest(const std::vector<double>& values) {
  return *std::max_element(values.begin(), values.end());
}

bool most_are_greatest(const std::vector<double>& values) {
  const auto count = std::count(values.begin(), values.end(), greatest(values));
  return !is_below(count, static_cast<std::int64_t>(values.size()), kMostForbidden);
}

// Entries of some columns of some rows, all over the matrix.
std::vector<double> scattered(const RowScanner& costs) {
  std::vector<double> seen;
  for (std::int64_t r = 0; r < kValueRows; ++r) {
    const auto i = static_cast<Index>(r * (costs.rows() - 1) / (kValueRows - 1));
    for (std::int64_t k = 0; k < kValueColumns; ++k) {
      const auto j =
          static_cast<Index>((2 * k + r) * (costs.cols() - 1) / (2 * kValueColumns + kValueRows));
      seen.push_back(costs.cost(i, j));
    }
  }
  return seen;
}

}  // namespace

bool has_few_values(const RowScanner& costs) {
  std::vector<double> seen = scattered(costs);
  return distinct(seen) <= kFewValues;
}

std::optional<double> forbidding_cost(const RowScanner& costs) {
  std::vector<double> seen;
  for (Index j = 0; j < std::min(kForbiddenSample, costs.cols()); ++j) {
    seen.push_back(costs.cost(0, j));
  }
  if (!most_are_greatest(seen)) return {};  // as good as always: whole rows are read for few others
  seen.clear();
  for (const Index i : {costs.rows() / 3, costs.rows() / 2}) {
    for (Index j = 0; j < costs.cols(); ++j) seen.push_back(costs.cost(i, j));
  }
  if (!most_are_greatest(seen)) return {};
  const double largest = greatest(seen);
  if (distinct(seen) <= kAllowedValues) return {};
  return largest;
}

bool most_are_below(const RowScanner& costs, double limit) {
  const std::vector<double> seen = scattered(costs);
  const auto below = std::count_if(seen.begin(), seen.end(), [&](double x) { return x < limit; });
  return is_above(below, static_cast<std::int64_t>(seen.size()), kMostBelow);
}

}  // namespace bmatch
