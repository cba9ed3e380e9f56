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

// How `count` lines agree; at(a, b) is the cost of line a at place b.
template <typename F>
Agreement agreement(int count, F at) {
  std::vector<char> taken(count, 0), claimed(count, 0);
  Agreement of{};
  for (int a = 0; a < count; ++a) {
    int best = 0, equal = 1;
    for (int b = 1; b < count; ++b) {
      if (at(a, b) < at(a, best)) {
        best = b;
        equal = 0;
      }
      equal += at(a, b) == at(a, best);
    }
    of.collisions += taken[best];
    taken[best] = 1;
    int place = best;
    while (place < count && (claimed[place] || at(a, place) != at(a, best))) ++place;
    of.left += place == count;
    if (place < count) claimed[place] = 1;
    of.flat += equal == count;
    of.plateaus += !is_below(equal, count, kPlateau) && equal < count;
  }
  return of;
}

// Whether something holds of more than a share of some rows all over the matrix, which it reads.
template <typename F>
bool holds_of_rows(const Context& context, Share share, F holds) {
  const Index rows = context.costs.rows(), count = std::min(kPlateauRows, rows);
  Index of = 0;
  for (std::int64_t k = 0; k < count; ++k) of += holds(static_cast<Index>(k * rows / count));
  context.stats.row_reads += count;
  return is_above(of, count, share);
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

bool many_rows_are_plateaus(const Context& context) {
  const RowScanner& costs = context.costs;
  const std::vector<double> price(padded(costs.cols()), 0.0);
  const std::vector<std::uint8_t> free(padded(costs.cols()) / 8, 0);
  RowScanner::Scratch scratch = costs.scratch();
  return holds_of_rows(context, kManyPlateaus, [&](Index i) {
    const Claim claim = costs.claim(i, price.data(), free.data(), scratch);
    return claim.valid && costs.is_plateau(i, claim.best, scratch);
  });
}

bool few_are_below_plateaus(const Context& context) {
  const RowScanner& costs = context.costs;
  std::vector<double> cost(kFewBelow + 8);
  std::vector<Index> col(kFewBelow + 8);
  RowScanner::Scratch scratch = costs.scratch();
  return holds_of_rows(context, kHalf, [&](Index i) {
    const double greatest = costs.greatest(i, context.matching.v.data(), scratch).cost;
    return costs.below(i, nullptr, greatest, kFewBelow, cost.data(), col.data(), scratch) <=
           kFewBelow;
  });
}

Agreements agreements(Index rows, Index cols, const std::function<double(Index, Index)>& cost) {
  const int count = std::min(std::clamp(rows / kSampledOf, kLeastSample, kMostSample), rows);
  std::vector<double> sample;  // [count, count]
  for (std::int64_t a = 0; a < count; ++a) {
    for (std::int64_t b = 0; b < count; ++b) {
      sample.push_back(
          cost(static_cast<Index>(a * rows / count), static_cast<Index>(b * cols / count)));
    }
  }
  return {agreement(count, [&](int a, int b) { return sample[a * count + b]; }),
          agreement(count, [&](int a, int b) { return sample[b * count + a]; }), count};
}

bool Agreements::fewer_columns_are_plateaus() const {
  return is_above(rows.plateaus, count, kHalf) && is_above(rows.left, count, kFewFreeOfStart) &&
         is_below(columns.plateaus, rows.plateaus, kFewerPlateaus);
}

bool Agreements::has_plateaus() const { return is_above(rows.plateaus, count, kSomePlateaus); }

bool Agreements::has_plateaus_either_way() const {
  const int of_rows = rows.plateaus + rows.flat, of_columns = columns.plateaus + columns.flat;
  return is_above(std::max(of_rows, of_columns), count, kSomePlateaus);
}

bool Agreements::columns_differ_more() const {
  return is_above(rows.collisions - count / 10, columns.collisions, kMoreThanColumns);
}

}  // namespace bmatch
