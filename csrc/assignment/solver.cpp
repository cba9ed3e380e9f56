#include "solver.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>

#include "auction.h"
#include "candidates.h"
#include "certify.h"
#include "context.h"
#include "dense_paths.h"
#include "exactness.h"
#include "first_pass.h"
#include "huge_costs.h"
#include "list_paths.h"
#include "plain_paths.h"
#include "policy.h"
#include "samples.h"
#include "scaling.h"
#include "small.h"

namespace bmatch {
namespace {

class Solver {
 public:
  Solver(const RowScanner& costs, const Options& options, const Interrupted& interrupted)
      : costs_(costs),
        options_(options),
        threads_(options.threads > 0                                      ? options.threads
                 : std::int64_t{costs.rows()} * costs.cols() >= kThreaded ? -options.threads
                                                                          : 1),
        rows_(costs.rows()),
        cols_(costs.cols()),
        solution_{Outcome::optimal, Matching(rows_, cols_), {}, 0.0, 0.0, {}, {}},
        matching_(solution_.matching),
        stats_(solution_.stats),
        context_{costs, matching_, stats_, interrupted} {}

  Solution run();

 private:
  // What whole rows begin with: what there is, or an empty matching at price zero, from which rows
  // claim minima, or column minima come first, or both, or neither.
  enum class WholeRows { present, zero, minima, columns, minima_and_columns };

  // Started when first wanted.
  ThreadTeam& team() {
    if (team_ == nullptr) team_ = std::make_unique<ThreadTeam>(threads_);
    return *team_;
  }
  bool square() const { return rows_ == cols_; }

  // Each stage returns whether the solve has ended, well or not.
  bool solve_small();
  bool solve_large();
  bool solve_warm();
  bool solve_allowed(double forbidding);
  bool solve_few_values();
  bool first_read();
  bool new_start();
  bool reduce_and_augment(std::int64_t bids, ListPaths::Budget budget, double forbidding);
  bool reduce_and_augment(std::int64_t events = kUnlimited) {
    return reduce_and_augment(kReductionBids * rows_, {kListPops * rows_, events}, kInfinity);
  }
  bool augment_free(ListPaths::Budget budget);
  bool auction();
  bool whole_rows(WholeRows start, std::int64_t reads);
  Step prepare(DensePaths& paths, WholeRows start);
  bool try_whole_rows(WholeRows start = WholeRows::minima_and_columns);
  bool restart_plain();
  bool finished(Step step);

  void start_anew();
  bool is_exact();
  void finish_with_certificate();

  const RowScanner& costs_;
  const Options& options_;
  const int threads_;
  const Index rows_, cols_;
  Solution solution_;
  Matching& matching_;
  Stats& stats_;
  const Context context_;
  std::unique_ptr<ThreadTeam> team_;
  std::unique_ptr<CandidateLists> lists_;
  ReusedVector<RowMinima> minima_;  // [rows], if they are the answer
  bool tried_ = false;              // whole rows
  bool from_whole_rows_ = false;    // the answer, from price zero
};

Solution Solver::run() {
  if (rows_ == 0) return std::move(solution_);
  if (std::int64_t{rows_} * cols_ <= options_.small) {
    solve_small();
  } else {
    solve_large();
    if (solution_.outcome == Outcome::optimal && !is_exact()) restart_plain();
  }
  if (solution_.outcome == Outcome::optimal && options_.certificate) finish_with_certificate();
  return std::move(solution_);
}

// Ways that suit few matrices come first and are short; then one read of the matrix, and what its
// free rows call for; last what comes to its end for certain.
bool Solver::solve_large() {
  if (square() && options_.prices != nullptr) {
    if (solve_warm()) return true;
    start_anew();
  }
  if (const auto forbidding = forbidding_cost(costs_)) {
    if (solve_allowed(*forbidding)) return true;
    start_anew();
    if (square() && try_whole_rows()) return true;
  }
  if (has_few_values(costs_) && solve_few_values()) return true;

  if (first_read()) return true;
  if (!square()) {  // auctions are out: prices of spare columns must stay zero
    return reduce_and_augment() || whole_rows(WholeRows::present, kUnlimited);
  }
  if (new_start()) return true;
  const auto free = static_cast<double>(Auction(context_, *lists_).free_rows());
  // Rows tie with all that their lists hold: bids would crawl, and whole rows do better.
  const bool tied = lists_->all_tie();
  // Where paths are short and most rows have several best columns, more rows than otherwise.
  const bool many = rows_ <= kTiedRows && lists_->mean_gap().ties > kMostTied;
  if (free <= (many ? kManyFreeTied : kManyFree) * static_cast<double>(rows_) || tied) {
    if (reduce_and_augment(tied ? kTiedEvents : kUnlimited)) return true;
    if (tied && whole_rows(WholeRows::present, kTiedReads * rows_)) return true;
  }
  return auction() || whole_rows(WholeRows::zero, kUnlimited);
}

// Records why the solve has ended, if it has.
bool Solver::finished(Step step) {
  switch (step) {
    case Step::done:
      return true;
    case Step::budget_spent:
      return false;
    case Step::infeasible:
      solution_.outcome = Outcome::infeasible;
      return true;
    case Step::invalid:
      solution_.outcome = Outcome::invalid;
      return true;
    case Step::interrupted:
      solution_.outcome = Outcome::interrupted;
      return true;
  }
  return true;
}

void Solver::start_anew() {
  matching_ = Matching(rows_, cols_);
  lists_.reset();
}

// ---- Starts --------------------------------------------------------------------------------

bool Solver::solve_small() {
  std::optional<PhaseTimer> timer;  // reading the clock takes a good part of the smallest solves
  if (options_.certificate) timer.emplace(stats_.path_seconds);
  SmallAnswer answer = bmatch::solve_small(costs_, matching_, stats_);
  solution_.trapped = std::move(answer.trapped);
  if (answer.dwarfed && !exact_on_a_grid(costs_, matching_)) return restart_plain();
  return finished(answer.step);
}

// From the prices of a similar problem.
bool Solver::solve_warm() {
  const auto& given = *options_.prices;
  double least = kInfinity, greatest = -kInfinity;
  for (const double price : given) {
    if (!std::isfinite(price)) return false;
    least = std::min(least, price);
    greatest = std::max(greatest, price);
  }
  if (std::isinf(greatest - least)) return false;
  for (Index j = 0; j < cols_; ++j) matching_.v[j] = given[j] - greatest;
  lists_ = std::make_unique<CandidateLists>(context_, team());
  const Step step = list_rows(context_, *lists_, team(), 0);
  if (step != Step::done) return finished(step);
  Auction(context_, *lists_).claim_tight();
  return reduce_and_augment() || auction();
}

// Lists of all entries below a stand-in for forbidden pairs, so that prices climb no further before
// the rest counts.
bool Solver::solve_allowed(double forbidding) {
  const std::int64_t n = rows_;
  {
    PhaseTimer timer(stats_.first_pass_seconds);
    lists_ = std::make_unique<CandidateLists>(context_, team());
    std::int64_t entries = n * cols_ / kAllowedShare + kAllowedEntries * n;
    for (Index i = 0; i < rows_; ++i) {
      if (i % kRowsListedATurn == 0 && context_.interrupted()) return finished(Step::interrupted);
      const Step step = lists_->list_below(i, forbidding, entries);
      if (step != Step::done) return finished(step);
    }
    if (square()) lists_->reduce_columns();
  }
  Auction(context_, *lists_).claim_tight();
  return reduce_and_augment(kReductionBids * n, {kUnlimited, kAllowedEvents * n}, forbidding);
}

bool Solver::solve_few_values() { return whole_rows(WholeRows::minima, kFewValuesReads * rows_); }

// Lists of all rows, at price zero; where every row gets its best column that is the end.
bool Solver::first_read() {
  PhaseTimer timer(stats_.first_pass_seconds);
  FirstRead read(context_, team());
  Step step = read.begin();
  if (step == Step::done && square() && read.rows_agree() && try_whole_rows(WholeRows::columns)) {
    return true;
  }
  if (step == Step::done) step = read.finish();
  if (step != Step::done) return finished(step);
  minima_ = std::move(read.minima);
  lists_ = std::move(read.lists);
  return lists_ == nullptr;
}

// From the columns' own minima, where most rows want the same columns.
bool Solver::new_start() {
  Auction start(context_, *lists_);
  if (!is_above(start.free_rows(), rows_, kColumnStart)) return false;
  PhaseTimer timer(stats_.first_pass_seconds);
  const Step step = column_start(context_, *lists_, team());
  if (step != Step::done) return finished(step);
  start.claim_tight();
  return false;
}

// ---- Lists ---------------------------------------------------------------------------------

// Row reduction and paths from present prices, which keep every matched edge tight.
bool Solver::reduce_and_augment(std::int64_t bids, ListPaths::Budget budget, double forbidding) {
  {
    PhaseTimer timer(stats_.auction_seconds);
    Auction auction(context_, *lists_);
    if (forbidding < kInfinity) auction.set_scale(lists_->mean_spread(), forbidding);
    const Step step = auction.row_reduction(bids);  // a row without finite cost: the paths name it
    if (step == Step::interrupted) return finished(step);
  }
  return augment_free(budget);
}

bool Solver::augment_free(ListPaths::Budget budget) {
  PhaseTimer timer(stats_.path_seconds);
  ListPaths paths(context_, *lists_);
  for (Index i = 0; i < rows_; ++i) {
    if (matching_.col_of_row[i] != kNone) continue;
    const Step step = paths.augment(i, budget);
    if (step == Step::infeasible) solution_.trapped = paths.trapped();
    if (step != Step::done) return finished(step);
  }
  return true;
}

// Where many rows are free: epsilon scaling, then paths.
bool Solver::auction() {
  lists_->sample();
  const CandidateLists::Gap gap = lists_->mean_gap();
  if (!EpsilonScaling::is_possible(gap)) {
    return try_whole_rows() || reduce_and_augment() || whole_rows(WholeRows::present, kUnlimited);
  }
  {
    PhaseTimer timer(stats_.auction_seconds);
    const auto leave = [this] { return try_whole_rows(); };
    const Step step = EpsilonScaling(context_, *lists_, gap, leave).run();
    if (step == Step::budget_spent) return true;  // whole rows have the answer
    if (step == Step::interrupted) return finished(step);
  }
  const std::int64_t events = rows_ <= kFinishRows ? kFinishEvents : kUnlimited;
  return augment_free({kUnlimited, events}) || whole_rows(WholeRows::present, kUnlimited);
}

// ---- Whole rows ----------------------------------------------------------------------------

// Reads at most so many rows in its paths.  If they were not enough, a start from price zero leaves
// everything as it was.
bool Solver::whole_rows(WholeRows start, std::int64_t reads) {
  PhaseTimer timer(stats_.path_seconds);
  std::optional<Matching> kept;
  if (start != WholeRows::present) kept = std::exchange(matching_, Matching(rows_, cols_));
  DensePaths paths(context_);
  Step step = prepare(paths, start);
  if (step == Step::done) step = paths.augment_all(reads);
  if (step == Step::infeasible) solution_.trapped = paths.trapped();
  if (finished(step)) {
    from_whole_rows_ = from_whole_rows_ || kept.has_value();
    return true;
  }
  if (kept.has_value()) {
    matching_ = std::move(*kept);
  } else if (lists_ != nullptr) {
    lists_->prices_changed(true);
  }
  return false;
}

// Claims and bids before the paths.
Step Solver::prepare(DensePaths& paths, WholeRows start) {
  if (start == WholeRows::present || start == WholeRows::zero) return Step::done;
  Step step = start == WholeRows::columns ? Step::done : paths.claim_minima();
  if (step == Step::done && start != WholeRows::minima) step = paths.reduce_columns();
  if (step != Step::done) return step;
  return paths.reduce_rows(start == WholeRows::minima
                               ? kFewValuesBids * rows_
                               : kTryBids * static_cast<std::int64_t>(paths.free_rows()));
}

// Made once.  Where rows agree on the column they want, their own minima tell nothing and are left
// out.
bool Solver::try_whole_rows(WholeRows start) {
  if (std::exchange(tried_, true)) return false;
  return whole_rows(start, std::max(rows_ / kTryReadsOf, kTryReads) * rows_);
}

// Once more, in the order in which SciPy adds.
bool Solver::restart_plain() {
  matching_ = Matching(rows_, cols_);
  PhaseTimer timer(stats_.path_seconds);
  from_whole_rows_ = true;
  return finished(plain_paths(context_, options_.transposed));
}

// ---- The answer ----------------------------------------------------------------------------

// Whether rounding at the scale of the prices cannot have made it worse.  If all rows have their
// least costs, which proves it without any price, prices become zero.
bool Solver::is_exact() {
  if (!prices_dwarf(costs_, matching_)) return true;
  {
    PhaseTimer timer(stats_.certificate_seconds);
    minima_ = minima_if_matched(context_, lists_.get(), team());
  }
  if (minima_.empty()) return exact_on_a_grid(costs_, matching_);
  std::fill(matching_.v.begin(), matching_.v.end(), 0.0);
  return true;
}

void Solver::finish_with_certificate() {
  PhaseTimer timer(stats_.certificate_seconds);
  Certificate certificate;
  if (!minima_.empty()) {  // price zero: the row minima are the duals
    certificate = certify(costs_, matching_, minima_.data());
  } else if (lists_ != nullptr && !from_whole_rows_) {  // the bounds make the best of a list exact
    lists_->prices_changed(true);
    certificate = certify(costs_, matching_, *lists_);
  } else {
    certificate = certify(costs_, matching_, team());
    stats_.row_reads += rows_;
  }
  solution_.u = std::move(certificate.u);
  solution_.objective = certificate.objective;
  solution_.gap = certificate.gap;
}

}  // namespace

Solution solve(const RowScanner& costs, const Options& options, const Interrupted& interrupted) {
  Solution solution = Solver(costs, options, interrupted).run();
  if (!may_have_overflowed(costs, solution)) return solution;
  const ScaledDown scaled(costs, options);
  Options anew = options;
  anew.prices = nullptr;
  solution = Solver(scaled, anew, interrupted).run();
  ScaledDown::scale_back(solution);
  return solution;
}

}  // namespace bmatch
