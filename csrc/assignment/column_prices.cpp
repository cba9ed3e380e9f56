#include "column_prices.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "policy.h"

namespace bmatch {
namespace {

// The least of the first column without a price.
double level(const std::vector<double>& least, Index rows, Index cols) {
  std::vector<double> finite;
  std::copy_if(least.begin(), least.begin() + cols, std::back_inserter(finite),
               [](double x) { return x < kInfinity; });
  if (finite.empty()) return 0.0;
  const std::int64_t priced = rows == cols ? rows : rows * kPriced.part / kPriced.whole;
  const auto count = static_cast<std::int64_t>(finite.size());
  const auto at = finite.begin() + std::clamp<std::int64_t>(priced - 1, 0, count - 1);
  std::nth_element(finite.begin(), at, finite.end());
  return *at;
}

}  // namespace

void set_column_prices(Matching& matching, const std::vector<double>& least) {
  const auto rows = static_cast<Index>(matching.col_of_row.size());
  const auto cols = static_cast<Index>(matching.row_of_col.size());
  const double zero = level(least, rows, cols);
  for (Index j = 0; j < cols; ++j) {
    matching.v[j] = least[j] < kInfinity ? std::min(least[j] - zero, 0.0) : 0.0;
  }
}

}  // namespace bmatch
