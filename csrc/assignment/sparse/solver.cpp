#include "solver.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "assignment/exactness_rule.h"
#include "assignment/policy.h"
#include "assignment/rounding_error.h"
#include "assignment/sum.h"
#include "auction.h"
#include "forest.h"
#include "least_prices.h"
#include "plain.h"
#include "state.h"

namespace bmatch::sparse {
namespace {

// Bids of a stage, a row.  Where an auction's were spent, paths do the rest.  Ten nearest
// neighbours, 10^5 rows: with 8 bids a row the paths take 8.9 s and the solve 9.7, with 20 2.1 and
// 3.7, with 50 2.4 and 4.7.
constexpr std::int64_t kFirstBids = 4, kEpsilonBids = 50, kLastBids = 20;

// Free rows after the first row reduction, of all, up to which there is no auction.
constexpr Share kFew{1, 1000};

// Epsilon, by the median of what a row's cheapest entry leads by.  Median, not mean: a few entries
// of another scale must not set it.  A first one of 0.5: k nearest neighbours, 10^5 rows,
// 2.1 -> 20 s, since bids crawl; 16 costs uniform entries less than the noise.
constexpr double kFirstEpsilon = 16.0, kLastEpsilon = 0.004, kEpsilonStep = 5.0;

class Solver {
 public:
  Solver(const Costs& costs, const Interrupted& interrupted)
      : costs_(costs),
        solution_{Outcome::optimal, Matching(costs.rows, costs.cols), {}, {}, 0.0, 0.0, {}, {}},
        state_(costs, solution_.matching, solution_.stats, interrupted) {}

  Solution run();

 private:
  bool square() const { return costs_.rows == costs_.cols; }
  bool finished(Step step);
  bool reduce();
  bool scale_epsilon();
  bool match_free();
  bool is_exact() const;
  bool settle();
  bool is_least_of_rows() const;
  bool is_on_grid(double greatest) const;
  void start_anew();
  void certify();
  double slack(Index i, double u) const;
  double median_lead() const;

  const Costs& costs_;
  Solution solution_;
  State state_;
};

Solution Solver::run() {
  if (costs_.rows == 0) return std::move(solution_);
  for (Index i = 0; i < costs_.rows; ++i) {
    if (costs_.has_entries(i)) continue;
    solution_.trapped.assign(1, i);
    solution_.outcome = Outcome::infeasible;
    return std::move(solution_);
  }
  const bool ended = reduce() || (square() && scale_epsilon());
  if (!ended) match_free();
  if (solution_.outcome == Outcome::optimal && !is_exact() && !settle()) {
    start_anew();
    PhaseTimer timer(solution_.stats.path_seconds);
    finished(plain_paths(state_));
  }
  if (solution_.outcome == Outcome::optimal) certify();
  solution_.entry = std::move(state_.entry);
  return std::move(solution_);
}

// Records why the solve has ended, if it has.  Stages return whether it has.
bool Solver::finished(Step step) {
  if (step == Step::done || step == Step::budget_spent) return false;
  solution_.outcome = step == Step::infeasible ? Outcome::infeasible : Outcome::interrupted;
  return true;
}

// From the cheapest entry of a row to the next; zero where most rows tie, and bids would go round
// among equals while paths cross ties at no cost.
double Solver::median_lead() const {
  std::vector<double> leads;
  const Index step = std::max(costs_.rows / 4096, Index{1});
  for (Index i = 0; i < costs_.rows; i += step) {
    const Position first = costs_.start[i];
    if (costs_.start[i + 1] - first < 2) continue;
    leads.push_back(costs_.cost[first + 1] - costs_.cost[first]);
  }
  if (leads.empty()) return 0.0;
  const auto middle = leads.begin() + static_cast<std::ptrdiff_t>(leads.size() / 2);
  std::nth_element(leads.begin(), middle, leads.end());
  return *middle;
}

// Bids that keep every matched edge tight.
bool Solver::reduce() {
  PhaseTimer timer(solution_.stats.auction_seconds);
  Auction auction(state_, 0.0);
  return finished(auction.phase(0.0, kFirstBids * costs_.rows));
}

bool Solver::scale_epsilon() {
  const double lead = median_lead();
  if (lead == 0.0 || !is_above(state_.free_rows(), costs_.rows, kFew)) return false;
  const double first = kFirstEpsilon * lead, last = kLastEpsilon * lead;
  Auction auction(state_, first);
  for (double epsilon = first;; epsilon = std::max(epsilon / kEpsilonStep, last)) {
    {
      PhaseTimer timer(solution_.stats.auction_seconds);
      state_.lower_ceiling();
      if (finished(auction.free_unhappy(epsilon))) return true;
      if (finished(auction.phase(epsilon, kEpsilonBids * costs_.rows))) return true;
    }
    if (match_free()) return true;
    if (epsilon <= last) break;
  }
  PhaseTimer timer(solution_.stats.auction_seconds);
  state_.lower_ceiling();
  if (finished(auction.free_unhappy(0.0))) return true;
  return finished(auction.phase(0.0, kLastBids * costs_.rows));
}

// Along shortest paths; if square, a search from all free rows ends when half of them are
// matched, since the others are far from free columns.
bool Solver::match_free() {
  PhaseTimer timer(solution_.stats.path_seconds);
  if (square()) state_.lower_ceiling();
  Forest forest(state_);
  std::vector<Index> free, some;
  for (Index i = 0; i < costs_.rows; ++i) {
    if (solution_.matching.col_of_row[i] == kNone) free.push_back(i);
  }
  while (!free.empty()) {
    some = square() ? free : std::vector<Index>{free.back()};
    Step step = forest.augment(some, static_cast<std::int64_t>(some.size() + 1) / 2);
    if (step == Step::infeasible) {
      if (some.size() > 1) step = forest.augment({some.front()}, 1);
      solution_.trapped = forest.trapped();
    }
    if (finished(step)) return true;
    const auto is_matched = [&](Index i) { return solution_.matching.col_of_row[i] != kNone; };
    if (square()) {
      free.erase(std::remove_if(free.begin(), free.end(), is_matched), free.end());
    } else {
      free.pop_back();
    }
  }
  return false;
}

void Solver::start_anew() {
  solution_.matching = Matching(costs_.rows, costs_.cols);
  state_.ceiling = 0.0;
}

bool Solver::is_least_of_rows() const {
  for (Index i = 0; i < costs_.rows; ++i) {
    if (costs_.cost[state_.entry[i]] > costs_.cost[costs_.start[i]]) return false;
  }
  return true;
}

bool Solver::is_on_grid(double greatest) const {
  const double grid = exactness_grid(greatest, costs_.rows);
  if (!(grid > 0.0 && grid < kInfinity)) return false;
  for (const double c : costs_.cost) {
    const double steps = c / grid;
    if (steps != std::nearbyint(steps)) return false;
  }
  double gain = 0.0;
  for (Index i = 0; i < costs_.rows; ++i) {
    const double x = state_.matched(i);
    gain += (x - least_of(costs_, i, solution_.matching.v.data(), state_.ceiling)) +
            0x1p-52 * std::fabs(x);
  }
  return 2.0 * gain < grid;
}

bool Solver::is_exact() const {
  double greatest = 0.0, magnitudes = 0.0;
  for (Index j = 0; j < costs_.cols; ++j) {
    greatest = std::max(greatest, std::fabs(solution_.matching.v[j]));
  }
  if (greatest == 0.0) return true;
  for (Index i = 0; i < costs_.rows; ++i) magnitudes += std::fabs(costs_.cost[state_.entry[i]]);
  return !prices_dwarf(greatest, magnitudes, costs_.rows) || is_least_of_rows() ||
         is_on_grid(greatest);
}

// The answer as it is, if its least prices prove it.
bool Solver::settle() {
  PhaseTimer timer(solution_.stats.certificate_seconds);
  return least_prices(state_) && is_exact();
}

// What the row's matched entry is above its least, u, exactly but for one rounding: entries that
// round to the same may differ.
double Solver::slack(Index i, double u) const {
  const double* const v = solution_.matching.v.data();
  double least = kInfinity;  // error of those that round to u
  for (Position k = costs_.start[i]; k < costs_.start[i + 1]; ++k) {
    const double c = costs_.cost[k], price = v[costs_.col[k]];
    if (c - state_.ceiling > u) break;
    if (c - price == u) least = std::min(least, rounding_error(c, price));
  }
  const Position at = state_.entry[i];
  return (state_.matched(i) - u) + (rounding_error(costs_.cost[at], v[costs_.col[at]]) - least);
}

void Solver::certify() {
  PhaseTimer timer(solution_.stats.certificate_seconds);
  const Matching& matching = solution_.matching;
  state_.ceiling = *std::max_element(matching.v.begin(), matching.v.begin() + costs_.cols);
  solution_.u.resize(costs_.rows);
  Sum objective, gap;
  for (Index i = 0; i < costs_.rows; ++i) {
    solution_.u[i] = least_of(costs_, i, matching.v.data(), state_.ceiling);
    objective.add(costs_.cost[state_.entry[i]]);
    gap.add(slack(i, solution_.u[i]));
  }
  if (!square()) {
    for (Index j = 0; j < costs_.cols; ++j) {
      if (matching.row_of_col[j] == kNone) gap.add(-matching.v[j]);
    }
  }
  solution_.objective = objective.value();
  solution_.gap = gap.value();
}

// Under a limit: rows in columns of their own have none, and duals are within the limit.
void leave_out(const Costs& costs, Solution& s) {
  const Index cols = costs.given_cols();
  Matching matching(costs.rows, cols);
  Sum objective;
  for (Index i = 0; i < costs.rows; ++i) {
    const Index j = s.matching.col_of_row[i];
    if (j < cols) {
      matching.match(i, j);
      objective.add(costs.cost[s.entry[i]]);
      s.u[i] = std::min(s.u[i], costs.limit);
    } else {
      s.u[i] = costs.limit;  // the column may have a price, though nobody else bid for it
    }
  }
  std::copy_n(s.matching.v.begin(), cols, matching.v.begin());
  s.matching = std::move(matching);
  s.objective = objective.value();
}

}  // namespace

Solution solve(const Costs& costs, const Interrupted& interrupted) {
  Solution s = Solver(costs, interrupted).run();
  if (costs.limit < kInfinity && s.outcome == Outcome::optimal) leave_out(costs, s);
  return s;
}

}  // namespace bmatch::sparse
