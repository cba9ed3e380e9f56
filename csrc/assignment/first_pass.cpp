#include "first_pass.h"

#include <algorithm>
#include <atomic>
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

Step column_start(const Context& context, CandidateLists& lists, ThreadTeam& team) {
  const RowScanner& costs = context.costs;
  const Index rows = costs.rows(), cols = costs.cols();
  context.matching = Matching(rows, cols);
  std::vector<double> minima(rows);
  for (Index i = 0; i < rows; ++i) minima[i] = lists.best(i).best;
  if (context.interrupted()) return Step::interrupted;
  const int count = team.threads();
  std::vector<std::vector<double>> parts(count);  // least_j over a part of the rows
  share(team, count, [&](std::int64_t part) {
    std::vector<double> part_least(padded(cols), kInfinity);
    RowScanner::Scratch scratch = costs.scratch();
    const auto end = static_cast<Index>(std::int64_t{rows} * (part + 1) / count);
    for (auto i = static_cast<Index>(std::int64_t{rows} * part / count); i < end; ++i) {
      if (minima[i] < kInfinity) costs.lower(i, minima[i], part_least.data(), scratch);
    }
    parts[part] = std::move(part_least);
  });
  context.stats.row_reads += rows;
  std::vector<double> least = std::move(parts[0]);
  for (int part = 1; part < count; ++part) {
    for (Index j = 0; j < cols; ++j) least[j] = std::min(least[j], parts[part][j]);
  }
  set_column_prices(context.matching, least);
  lists.prices_changed(false);
  return list_rows(context, lists, team, 0);
}

}  // namespace bmatch
