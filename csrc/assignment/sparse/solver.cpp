#include "solver.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "assignment/exactness_rule.h"
#include "assignment/policy.h"
#include "assignment/sum.h"
#include "auction.h"
#include "forest.h"
#include "plain.h"
#include "state.h"

namespace bmatch::sparse {
namespace {

double env(const char* name, double d) { const char* s = getenv(name); return s ? atof(s) : d; }
const double P_RED = env("P_RED", 4), P_FEW = env("P_FEW", 0.001), P_FIRST = env("P_FIRST", 0.5), P_STEP = env("P_STEP", 5), P_LAST = env("P_LAST", 0.02), P_BIDS = env("P_BIDS", 8), P_LEAVE = env("P_LEAVE", 0.002), P_FIN = env("P_FIN", 8), P_WANT=env("P_WANT", 0.5);
const bool P_TRACE = env("P_TRACE", 0) > 0;

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
  bool reduce(std::int64_t bids);
  bool scale_epsilon();
  bool match_free(bool together);
  bool is_exact() const;
  bool is_least_of_rows() const;
  bool is_on_grid(double greatest) const;
  void start_anew();
  void certify();
  double median_lead() const;
  double spread() const;
  void trace(const char* s) { if (P_TRACE) fprintf(stderr, "%-20s free %ld bids %ld aug %ld  auction %.2fs paths %.2fs\n", s, state_.free_rows(), solution_.stats.bids, solution_.stats.augmentations, solution_.stats.auction_seconds, solution_.stats.path_seconds); }

  const Costs& costs_;
  Solution solution_;
  State state_;
};

Solution Solver::run() {
  const bool ended = reduce(P_RED * costs_.rows) || (square() && scale_epsilon());
  if (!ended) match_free(square());
  if (solution_.outcome == Outcome::optimal && !is_exact()) {
    start_anew();
    PhaseTimer timer(solution_.stats.path_seconds);
    finished(plain_paths(state_));
  }
  if (solution_.outcome == Outcome::optimal) certify();
  solution_.entry = std::move(state_.entry);
  return std::move(solution_);
}

bool Solver::finished(Step step) {
  if (step == Step::done || step == Step::budget_spent) return false;
  solution_.outcome = step == Step::infeasible ? Outcome::infeasible : Outcome::interrupted;
  return true;
}

double Solver::spread() const {
  double least = kInfinity, greatest = -kInfinity;
  for (const double c : costs_.cost) {
    least = std::min(least, c);
    greatest = std::max(greatest, c);
  }
  return greatest > least ? greatest - least : 1.0;
}

double Solver::median_lead() const {
  std::vector<double> leads;
  const Index step = std::max(costs_.rows / 4096, Index{1});
  for (Index i = 0; i < costs_.rows; i += step) {
    for (Position k = costs_.start[i] + 1; k < costs_.start[i + 1]; ++k) {
      const double lead = costs_.cost[k] - costs_.cost[costs_.start[i]];
      if (lead > 0.0) {
        leads.push_back(lead);
        break;
      }
    }
  }
  if (leads.empty()) return 0.0;
  const auto middle = leads.begin() + static_cast<std::ptrdiff_t>(leads.size() / 2);
  std::nth_element(leads.begin(), middle, leads.end());
  return *middle;
}

bool Solver::reduce(std::int64_t bids) {
  PhaseTimer timer(solution_.stats.auction_seconds);
  Auction auction(state_, spread());
  const Step step = auction.phase(0.0, bids, 0);
  trace("reduced");
  return step != Step::infeasible && finished(step);
}

bool Solver::scale_epsilon() {
  const double lead = median_lead();
  if (lead == 0.0 || state_.free_rows() <= P_FEW * costs_.rows) return false;
  const double last = P_LAST * lead;
  Auction auction(state_, spread());
  for (double epsilon = P_FIRST * lead;; epsilon = std::max(epsilon / P_STEP, last)) {
    {
      PhaseTimer timer(solution_.stats.auction_seconds);
      state_.lower_ceiling();
      if (finished(auction.free_unhappy(epsilon))) return true;
      if (P_TRACE) fprintf(stderr, "eps %g ", epsilon);
      trace("unhappy");
      const Step step = auction.phase(epsilon, P_BIDS * costs_.rows, P_LEAVE * costs_.rows);
      if (finished(step)) return true;
      trace("phase");
    }
    if (match_free(true)) return true;
    trace("matched");
    if (epsilon <= last) break;
  }
  PhaseTimer timer(solution_.stats.auction_seconds);
  state_.lower_ceiling();
  if (finished(auction.free_unhappy(0.0))) return true;
  trace("unhappy 0");
  const Step step = auction.phase(0.0, P_FIN * costs_.rows, 0);
  trace("reduced");
  return finished(step);
}

bool Solver::match_free(bool together) {
  PhaseTimer timer(solution_.stats.path_seconds);
  if (square()) state_.lower_ceiling();
  Forest forest(state_);
  std::vector<Index> free, some;
  for (Index i = 0; i < costs_.rows; ++i) {
    if (solution_.matching.col_of_row[i] == kNone) free.push_back(i);
  }
  while (!free.empty()) {
    if (together) {
      some = free;
    } else {
      some.assign(1, free.back());
    }
    const auto wanted = static_cast<std::int64_t>(some.size() * P_WANT) + 1;
    Step step = forest.augment(some, std::min<std::int64_t>(wanted, some.size()));
    if (step == Step::infeasible) {
      if (some.size() > 1) step = forest.augment({some.front()}, 1);
      solution_.trapped = forest.trapped();
    }
    if (P_TRACE) trace("forest");
    if (finished(step)) return true;
    free.erase(std::remove_if(free.begin(), free.end(),
                              [&](Index i) { return solution_.matching.col_of_row[i] != kNone; }),
               free.end());
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

void Solver::certify() {
  PhaseTimer timer(solution_.stats.certificate_seconds);
  const Matching& matching = solution_.matching;
  state_.ceiling = *std::max_element(matching.v.begin(), matching.v.begin() + costs_.cols);
  solution_.u.resize(costs_.rows);
  Sum objective, gap;
  for (Index i = 0; i < costs_.rows; ++i) {
    solution_.u[i] = least_of(costs_, i, matching.v.data(), state_.ceiling);
    objective.add(costs_.cost[state_.entry[i]]);
    gap.add(state_.matched(i) - solution_.u[i]);
  }
  if (!square()) {
    for (Index j = 0; j < costs_.cols; ++j) {
      if (matching.row_of_col[j] == kNone) gap.add(-matching.v[j]);
    }
  }
  solution_.objective = objective.value();
  solution_.gap = gap.value();
}

}  // namespace

Solution solve(const Costs& costs, const Interrupted& interrupted) {
  return Solver(costs, interrupted).run();
}

}  // namespace bmatch::sparse
