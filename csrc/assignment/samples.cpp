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

// How many of `count` lines have their least cost where an earlier line has its own; at(a, b) is
// the cost of line a at place b.
template <typename F>
int collisions(int count, F at) {
  std::vector<char> taken(count, 0);
  int number = 0;
  for (int a = 0; a < count; ++a) {
    int best = 0;
    for (int b = 1; b < count; ++b) {
      if (at(a, b) < at(a, best)) best = b;
    }
    number += taken[best];
    taken[best] = 1;
  }
  return number;
}

}  // namespace

bool has_few_values(const RowScanner& costs) {
  std::vector<double> seen = scattered(costs);
  return distinct(seen) <= kFewValues;
}

bool most_are_below(const RowScanner& costs, double limit) {
  const std::vector<double> seen = scattered(costs);
  const auto below = std::count_if(seen.begin(), seen.end(), [&](double x) { return x < limit; });
  return is_above(below, static_cast<std::int64_t>(seen.size()), kMostBelow);
}

bool rows_agree_more_than_columns(const RowScanner& costs) {
  constexpr int n = kAgreeingSample;
  std::vector<double> sample;  // [n, n]
  const std::int64_t rows = costs.rows(), cols = costs.cols();
  for (int a = 0; a < n; ++a) {
    for (int b = 0; b < n; ++b) {
      sample.push_back(
          costs.cost(static_cast<Index>(a * rows / n), static_cast<Index>(b * cols / n)));
    }
  }
  const int of_rows = collisions(n, [&](int a, int b) { return sample[a * n + b]; });
  const int of_columns = collisions(n, [&](int a, int b) { return sample[b * n + a]; });
  return is_above(of_rows - n / 10, of_columns, kMoreThanColumns);
}

}  // namespace bmatch
