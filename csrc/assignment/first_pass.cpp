#include "first_pass.h"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <utility>
#include <vector>

#include "assignment/rows/parallel.h"
#include "auction.h"
#include "column_prices.h"
#include "policy.h"

namespace bmatch {
namespace {

// So many rows that the user need not wait long for an answer.
Index rows_a_turn(std::int64_t entries, const RowScanner& costs) {
  return static_cast<Index>(std::max(kRowsATurn, entries / costs.effort() / costs.cols()));
}

// Of each column, over some rows.
struct ColumnMinima {
  std::vector<double> costs, reduced;  // min_i c_ij, and min_i (c_ij - u_i)

  ColumnMinima() = default;
  explicit ColumnMinima(Index cols)
      : costs(padded(cols), kInfinity), reduced(padded(cols), kInfinity) {}

  void take_less_of(const ColumnMinima& other) {
    for (std::size_t j = 0; j < costs.size(); ++j) {
      costs[j] = std::min(costs[j], other.costs[j]);
      reduced[j] = std::min(reduced[j], other.reduced[j]);
    }
  }
  // Whether zero for all rows is the greater dual, where row minima come to this sum.
  bool are_of_columns(double of_rows) const {
    double difference = -of_rows;
    for (std::size_t j = 0; j < costs.size(); ++j) {
      if (costs[j] < kInfinity) difference += costs[j] - reduced[j];
    }
    return difference > 0.0;
  }
};

}  // namespace

FirstRead::FirstRead(const Context& context, ThreadTeam& team)
    : minima(context.costs.rows()), context_(context), team_(team) {}

Step FirstRead::begin() { return read_on(); }

bool FirstRead::rows_agree() const { return !is_below(collisions_, end_, kRowsAgree); }

bool FirstRead::is_separated() const {
  return collisions_ <= kFewCollisions || !is_above(collisions_, end_, kCollisions);
}

// Minima of the next rows.  Whether to go on is asked after the same rows for every number of
// threads.
Step FirstRead::read_on() {
  if (context_.interrupted()) return Step::interrupted;
  const Index rows = context_.costs.rows(), begin = end_;
  const Index longest = rows_a_turn(2 * kEntriesATurn, context_.costs);
  end_ = begin + std::min(std::clamp(begin, Index{kFirstRows}, longest), rows - begin);
  parallel_rows(context_.costs, team_, begin, end_, [&](Index i, int count, auto& scratch) {
    context_.costs.minima(i, count, minima.data() + i, scratch);
  });
  context_.stats.row_reads += end_ - begin;
  for (Index i = begin; i < end_; ++i) {
    if (!minima[i].valid) return Step::invalid;
    const Index j = minima[i].col;
    if (j == kNone || context_.matching.row_of_col[j] != kNone) {
      ++collisions_;
    } else {
      context_.matching.match(i, j);
    }
  }
  return Step::done;
}

Step FirstRead::finish() {
  while (is_separated() && end_ < context_.costs.rows()) {
    if (const Step step = read_on(); step != Step::done) return step;
  }
  if (collisions_ == 0) return Step::done;
  lists = std::make_unique<CandidateLists>(context_, team_);
  for (Index i = 0; i < end_; ++i) lists->adopt(i, minima[i]);
  minima.clear();
  const Step step = list_rows(context_, *lists, team_, end_);
  if (step == Step::done) Auction(context_, *lists).claim_tight();
  return step;
}

bool FirstRead::others_agree() const {
  std::vector<Index> next;
  for (Index i = end_; i < context_.costs.rows() && next.size() < kFirstRows; ++i) {
    if (context_.matching.col_of_row[i] != kNone) continue;
    const CandidateLists::List list = lists->of(i);
    if (list.size == 0) continue;
    const double *const end = list.cost + list.size, *const best = std::min_element(list.cost, end);
    const double* second = best == list.cost ? list.cost + 1 : list.cost;
    for (const double* k = second; k < end; ++k) {
      if (k != best && *k < *second) second = k;
    }
    if (*second < kInfinity) next.push_back(list.col[second - list.cost]);
  }
  const auto count = static_cast<std::int64_t>(next.size());
  std::sort(next.begin(), next.end());
  const std::int64_t distinct = std::unique(next.begin(), next.end()) - next.begin();
  return count > kLeastSample && is_above(count - distinct, count, kOthersAgree);
}

Step list_rows(const Context& context, CandidateLists& lists, ThreadTeam& team, Index first) {
  const Index rows = context.costs.rows();
  const Index turn = rows_a_turn(kEntriesATurn, context.costs);
  std::atomic<bool> valid{true};
  for (Index begin = first; begin < rows; begin += turn) {
    if (context.interrupted()) return Step::interrupted;
    const Index end = begin + std::min(turn, rows - begin);
    parallel_rows(context.costs, team, begin, end, [&](Index i, int count, auto& scratch) {
      if (!lists.scan(i, count, scratch)) valid.store(false, std::memory_order_relaxed);
    });
    context.stats.row_reads += end - begin;
  }
  return valid ? Step::done : Step::invalid;
}

bool wants_column_start(const Context& context, const CandidateLists& lists, std::int64_t free) {
  const Index rows = context.costs.rows();
  if (is_above(free, rows, kColumnStart)) return true;
  if (!is_above(free, rows, kHalf)) return false;
  std::vector<double> least(context.costs.cols(), kInfinity);
  for (Index i = 0; i < rows; ++i) {
    const CandidateLists::List list = lists.of(i);
    for (int k = 0; k < list.size; ++k) {
      least[list.col[k]] = std::min(least[list.col[k]], list.cost[k]);
    }
  }
  std::vector<char> taken(least.size(), 0);
  std::int64_t left = 0;
  for (Index i = 0; i < rows; ++i) {
    const CandidateLists::List list = lists.of(i);
    const auto is_tight = [&](int k) { return list.cost[k] == least[list.col[k]]; };
    int k = 0;
    while (k < list.size && !(list.cost[k] < kInfinity && is_tight(k) && !taken[list.col[k]])) ++k;
    if (k < list.size) {
      taken[list.col[k]] = 1;
    } else if (!is_below(++left, free, kHalf)) {
      return false;
    }
  }
  return true;
}

Step column_start(const Context& context, CandidateLists& lists, ThreadTeam& team) {
  const RowScanner& costs = context.costs;
  const Index rows = costs.rows(), cols = costs.cols();
  context.matching = Matching(rows, cols);
  std::vector<double> minima(rows);
  for (Index i = 0; i < rows; ++i) minima[i] = lists.best(i).best;
  if (context.interrupted()) return Step::interrupted;
  const int count = team.threads();
  std::vector<ColumnMinima> parts(count);
  share(team, count, [&](std::int64_t part) {
    ColumnMinima of(cols);
    RowScanner::Scratch scratch = costs.scratch();
    const auto end = static_cast<Index>(std::int64_t{rows} * (part + 1) / count);
    for (auto i = static_cast<Index>(std::int64_t{rows} * part / count); i < end; ++i) {
      if (!(minima[i] < kInfinity)) continue;
      costs.lower(i, minima[i], of.reduced.data(), scratch);
      costs.lower(i, 0.0, of.costs.data(), scratch);
    }
    parts[part] = std::move(of);
  });
  context.stats.row_reads += rows;
  ColumnMinima least = std::move(parts[0]);
  for (int part = 1; part < count; ++part) least.take_less_of(parts[part]);
  const double of_rows = std::accumulate(minima.begin(), minima.end(), 0.0);
  const bool by_columns = least.are_of_columns(of_rows);
  set_column_prices(context.matching, by_columns ? least.costs : least.reduced);
  lists.prices_changed(false);
  return list_rows(context, lists, team, 0);
}

}  // namespace bmatch
