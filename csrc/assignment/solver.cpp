#include "solver.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>

#include "assignment/rows/column_scanner.h"
#include "auction.h"
#include "candidates.h"
#include "certify.h"
#include "column_prices.h"
#include "context.h"
#include "dense_paths.h"
#include "exactness.h"
#include "first_pass.h"
#include "huge_costs.h"
#include "least_prices.h"
#include "list_paths.h"
#include "plain_paths.h"
#include "policy.h"
#include "regret_start.h"
#include "samples.h"
#include "scaling.h"
#include "small.h"
#include "spare_columns.h"
#include "two_sided_paths.h"

namespace bmatch {
namespace {

// What paths over whole rows may read from the first side, and from both.
struct WholeRows {
  std::int64_t first, most;
  bool hurries;
};

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
  // Started when first wanted.
  ThreadTeam& team() {
    if (team_ == nullptr) team_ = std::make_unique<ThreadTeam>(threads_);
    return *team_;
  }
  bool square() const { return rows_ == cols_; }
  bool is_small() const { return std::int64_t{rows_} * cols_ <= options_.small; }
  Agreements sampled() const {
    return agreements(rows_, cols_, [&](Index i, Index j) { return costs_.cost(i, j); });
  }
  bool may_turn() const { return !options_.nested && has_columns(costs_); }
  // Whether columns may have prices first: in the end those that nobody has are searched from.
  bool may_price() const {
    return square() || (costs_.takes_prices() && costs_.effort() == 1 && has_columns(costs_));
  }
  // A try of so many reads of the matrix, and of as many from its columns if it turns.
  WholeRows tried(std::int64_t reads, bool turns) const {
    return {reads * rows_, (turns ? 2 : 1) * reads * rows_, true};
  }
  WholeRows to_the_end() const { return {kTurnReads * rows_, kUnlimited, false}; }
  std::int64_t free_rows() const {
    return std::count(matching_.col_of_row.begin(), matching_.col_of_row.end(), kNone);
  }

  // Each stage returns whether the solve has ended, well or not.
  bool solve_small(bool may_hand_on);
  bool solve_large();
  bool solve_warm();
  bool solve_crowded();
  bool dense_start(const WholeRows& budget);
  bool dense_rest(DensePaths& rows, const WholeRows& budget);
  Step augment_all(DensePaths& rows, const WholeRows& budget);
  Step raise_spare(std::int64_t reads);
  bool solve_transposed();
  bool first_read();
  bool list_and_claim();
  bool reduce_rows(bool& ended);
  bool augment_free(ListPaths::Budget budget);
  bool auction(bool ended);
  bool whole_rows(const WholeRows& budget);
  bool whole_rows() { return whole_rows(to_the_end()); }
  bool finish();
  bool settle();
  bool restart_plain();
  bool finished(Step step);

  bool is_exact();
  Solution certified();
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
  bool few_values_ = false;         // most costs may be alike
  bool priced_ = false;             // columns had prices before rows bid
  bool spoilt_ = false;             // an auction left prices to many columns that nobody has
  bool by_whole_rows_ = false;      // the answer: lists are not of its prices
};

Solution Solver::run() {
  if (rows_ == 0) return std::move(solution_);
  if (is_small()) {
    if (solve_small(true)) return certified();
    matching_ = Matching(rows_, cols_);
  }
  solve_large();
  if (solution_.outcome == Outcome::optimal) finished(raise_spare(kUnlimited));
  if (solution_.outcome == Outcome::optimal && !is_exact()) {
    // Prices of lists and auctions are larger than those of whole rows.
    const bool may_help = square() && !by_whole_rows_;
    if (!settle() && (!may_help || !dense_start(to_the_end()) || !is_exact())) restart_plain();
  }
  return certified();
}

Solution Solver::certified() {
  if (solution_.outcome == Outcome::optimal && options_.certificate) finish_with_certificate();
  return std::move(solution_);
}

// One read of the matrix, then bids over lists; what they leave free is matched by paths, after an
// auction where bids had no end.
bool Solver::solve_large() {
  if (square() && options_.prices != nullptr) {
    if (solve_warm()) return true;
    matching_ = Matching(rows_, cols_);
    lists_.reset();
  }
  few_values_ = has_few_values(costs_);
  if (may_price() && few_values_ && many_rows_are_plateaus(context_)) {
    const Agreements seen = sampled();
    const bool turns = square() && may_turn() && seen.fewer_columns_are_plateaus();
    if (turns && solve_transposed()) return true;
    if (dense_start(tried(kFewValuesReads, seen.has_plateaus()))) return true;
  }
  if (first_read()) return true;
  bool ended = false;
  if (reduce_rows(ended)) return true;
  if (!square() && !priced_) {  // from price zero, as long as paths are short
    if (!may_price()) return augment_free({kListPops * rows_, kUnlimited}) || whole_rows();
    if (augment_free({kListPops * rows_, kWideListReads * rows_})) return true;
    if (whole_rows(tried(kWideRowReads, false)) || solve_crowded()) return true;
    if (reduce_rows(ended)) return true;
  }
  if (is_above(free_rows(), rows_, kFewLeft) && auction(ended)) return true;
  if (spoilt_) {  // prices of columns are no help
    matching_ = Matching(rows_, cols_);
    lists_->prices_changed(false);
    by_whole_rows_ = is_small();
    return is_small() ? solve_small(false) : whole_rows();
  }
  return finish();
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

// ---- Starts --------------------------------------------------------------------------------

bool Solver::solve_small(bool may_hand_on) {
  std::optional<PhaseTimer> timer;  // reading the clock takes a good part of the smallest solves
  if (options_.certificate) timer.emplace(stats_.path_seconds);
  SmallAnswer answer = bmatch::solve_small(costs_, matching_, stats_, may_hand_on);
  solution_.trapped = std::move(answer.trapped);
  if (answer.dwarfed && !settle()) return restart_plain();
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
  if (list_and_claim()) return true;
  bool ended = false;
  return reduce_rows(ended) || augment_free({kListPops * rows_, kUnlimited}) || auction(false) ||
         finish();
}

// Where most rows want the same few columns: those take rows, or prices of columns come first.
bool Solver::solve_crowded() {
  const Agreements seen = sampled();
  const bool begins_there = seen.fewer_columns_are_plateaus() || seen.columns_differ_more();
  if (begins_there && square() && may_turn() && solve_transposed()) return true;
  matching_ = Matching(rows_, cols_);
  {
    PhaseTimer timer(stats_.path_seconds);
    DensePaths paths(context_);
    Step step = paths.start(seen.has_plateaus());
    const auto free = static_cast<std::int64_t>(paths.free_rows());
    priced_ = !square();
    if (step == Step::done && is_above(free, rows_, kNearlyAll)) {
      matching_ = Matching(rows_, cols_);
      step = regret_start(context_);
    } else if (step == Step::done) {
      const std::vector<double> of_columns = matching_.v;
      const std::int64_t reads = std::max<std::int64_t>(rows_ / kCrowdedReadsOf, kCrowdedReads);
      const bool turns = seen.has_plateaus_either_way();
      const std::int64_t first = turns ? kTurnReads : reads;
      if (dense_rest(paths, {first * rows_, reads * rows_, true})) return true;
      set_column_prices(matching_, of_columns);
    }
    if (step != Step::done) return finished(step);
  }
  PhaseTimer timer(stats_.first_pass_seconds);
  return list_and_claim();
}

// With columns as rows.  A proof that there is no answer is wanted in terms of the rows.
bool Solver::solve_transposed() {
  bool copied = false;
  const std::unique_ptr<RowScanner> columns = columns_of(costs_, &copied);
  Options options = options_;
  options.prices = nullptr;
  options.nested = true;
  if (copied) options.threads = 1;  // as they are read
  options.certificate = false;
  Solution other = Solver(*columns, options, context_.interrupted).run();
  solution_.outcome = other.outcome;
  stats_.add(other.stats);
  if (other.outcome != Outcome::optimal) return other.outcome != Outcome::infeasible;
  matching_ = turned({*columns, other.matching, stats_, context_.interrupted});
  by_whole_rows_ = true;
  return true;
}

// Lists of all rows, at price zero; where every row gets its best column that is the end.
bool Solver::first_read() {
  PhaseTimer timer(stats_.first_pass_seconds);
  FirstRead read(context_, team());
  Step step = read.begin();
  if (step == Step::done && may_price() && read.rows_agree()) return solve_crowded();
  if (step == Step::done) step = read.finish();
  if (step != Step::done) return finished(step);
  minima_ = std::move(read.minima);
  const bool others_agree = square() && read.lists != nullptr && read.others_agree();
  lists_ = std::move(read.lists);
  if (lists_ == nullptr) return true;
  if (others_agree && is_above(free_rows(), rows_, kFewFreeOfStart)) {
    if (dense_start(tried(kHopelessReads, false))) return true;
    Auction(context_, *lists_).claim_tight();
  }
  if (!square() || !wants_column_start(context_, *lists_, free_rows())) return false;
  step = column_start(context_, *lists_, team());
  if (step != Step::done) return finished(step);
  Auction(context_, *lists_).claim_tight();
  return false;
}

// ---- Lists ---------------------------------------------------------------------------------

// Of all rows, at present prices; free rows take free columns that are tight.
bool Solver::list_and_claim() {
  lists_ = std::make_unique<CandidateLists>(context_, team());
  const Step step = list_rows(context_, *lists_, team(), 0);
  if (step != Step::done) return finished(step);
  Auction(context_, *lists_).claim_tight();
  return false;
}

// Whether the bids came to an end by themselves: then only rows that tie are free.
bool Solver::reduce_rows(bool& ended) {
  PhaseTimer timer(stats_.auction_seconds);
  const Step step = Auction(context_, *lists_).row_reduction(kReductionBids * rows_);
  ended = step != Step::budget_spent;  // a row without finite cost: the paths name it
  return step == Step::interrupted && finished(step);
}

bool Solver::augment_free(ListPaths::Budget budget) {
  PhaseTimer timer(stats_.path_seconds);
  ListPaths paths(context_, *lists_, few_values_);
  for (Index i = 0; i < rows_; ++i) {
    if (matching_.col_of_row[i] != kNone) continue;
    const Step step = paths.augment(i, budget);
    if (step == Step::infeasible) solution_.trapped = paths.trapped();
    if (step != Step::done) return finished(step);
  }
  return true;
}

// Where rows fight over prices: epsilon scaling, then paths.  If it is hopeless, a start over whole
// rows is tried, and then everything is as it was before.  Nothing is done where bids came to their
// end and most rows tie.
bool Solver::auction(bool ended) {
  lists_->sample();
  const CandidateLists::Gap gap = lists_->typical_gap();
  if (!EpsilonScaling::is_possible(gap) || (ended && gap.most_tie)) return false;
  if (few_values_ && few_are_below_plateaus(context_)) return false;
  const Matching before = matching_;
  const bool few = rows_ <= kHopelessFewRows;
  const std::int64_t hopeless = few ? kHopelessRescansOfFew : kHopelessRescans;
  const std::int64_t most = few ? kLeftRescansOfFew : kLeftRescans;
  bool ended_by_rows = false, has_tried = !square();
  const auto leave = [&](std::int64_t rescans) {
    if (few_values_ && rescans > kPlateauRescans * rows_ &&
        is_above(free_rows(), rows_, kManyLeft)) {
      return true;
    }
    if (rescans <= hopeless * rows_) return false;
    if (has_tried) return stats_.rescans > most * rows_;
    has_tried = true;
    Matching present = matching_;
    ended_by_rows = dense_start(tried(kHopelessReads, false));
    if (!ended_by_rows) matching_ = std::move(present);
    return ended_by_rows;
  };
  {
    PhaseTimer timer(stats_.auction_seconds);
    const Step step = EpsilonScaling(context_, *lists_, gap, leave).run();
    if (ended_by_rows) return true;
    if (step == Step::interrupted) return finished(step);
    spoilt_ = !square() && is_above(SpareColumns(context_).count(), rows_, kManySpare);
    if (step == Step::budget_spent || spoilt_) {
      matching_ = before;
      lists_->prices_changed(false);
      return false;
    }
  }
  const std::int64_t reads = rows_ <= kFinishRows ? kFinishReadsOfFew : kFinishReads * rows_;
  return augment_free({kUnlimited, reads});
}

// Paths for what is still free: over lists as long as they hold what is wanted, then over whole
// rows; from the free columns if rows tie in so many that most would be read.
bool Solver::finish() {
  const std::int64_t reads = std::max<std::int64_t>(kPathReads * rows_, kLeastPathReads);
  const std::int64_t pops = kFinishPops * rows_, free = free_rows();
  if (augment_free({pops / kEarlyOf, reads / kEarlyOf})) return true;
  const bool few = is_below(free - free_rows(), free, kHardlyDone);
  return (!few && augment_free({pops - pops / kEarlyOf, reads - reads / kEarlyOf})) || whole_rows();
}

// ---- Whole rows ----------------------------------------------------------------------------

// As in dense solvers: row minima, column minima, a few bids, and paths as long as they are short.
bool Solver::dense_start(const WholeRows& budget) {
  PhaseTimer timer(stats_.path_seconds);
  matching_ = Matching(rows_, cols_);
  DensePaths paths(context_);
  const Step step = paths.start(true);
  return step == Step::done ? dense_rest(paths, budget) : finished(step);
}

// The bids and the paths.  If they are given up, there is no matching again.
bool Solver::dense_rest(DensePaths& rows, const WholeRows& budget) {
  const auto free = static_cast<std::int64_t>(rows.free_rows());
  Step step = Step::budget_spent;
  if (!budget.hurries || !square() || !is_above(free, rows_, kHalf)) {
    step = rows.reduce_rows(kStartBids * free);
    if (step == Step::done) step = augment_all(rows, budget);
  }
  by_whole_rows_ = step == Step::done;
  if (step == Step::budget_spent) matching_ = Matching(rows_, cols_);
  return finished(step);
}

// From what the lists have come to.
bool Solver::whole_rows(const WholeRows& budget) {
  PhaseTimer timer(stats_.path_seconds);
  DensePaths rows(context_);
  const Step step = augment_all(rows, budget);
  lists_->prices_changed(true);
  return finished(step);
}

// Paths for all rows that are free.
Step Solver::augment_all(DensePaths& rows, const WholeRows& budget) {
  if (square()) {
    TwoSidedPaths paths(context_);
    const Step step = paths.augment_all(rows, budget.first, budget.most, budget.hurries);
    solution_.trapped = paths.trapped();
    by_whole_rows_ = paths.has_turned();
    return step;
  }
  const Step step = rows.augment_all(budget.most, budget.hurries);
  if (step == Step::infeasible) solution_.trapped = rows.trapped();
  return step == Step::done ? raise_spare(budget.most) : step;
}

// Columns that nobody has, of those that were given prices.
Step Solver::raise_spare(std::int64_t reads) {
  if (square()) return Step::done;
  SpareColumns spare(context_);
  if (spare.count() == 0) return Step::done;
  by_whole_rows_ = true;
  const Step step = spare.raise(reads);
  if (lists_ != nullptr) lists_->prices_changed(false);
  return step;
}

// The answer as it is, if its least prices prove it.
bool Solver::settle() {
  PhaseTimer timer(stats_.certificate_seconds);
  if (!least_prices(context_) || prices_dwarf(costs_, matching_)) return false;
  by_whole_rows_ = true;
  return true;
}

// Once more, in the order in which SciPy adds.
bool Solver::restart_plain() {
  matching_ = Matching(rows_, cols_);
  PhaseTimer timer(stats_.path_seconds);
  by_whole_rows_ = true;
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
  } else if (lists_ != nullptr && !by_whole_rows_) {  // the bounds make the best of a list exact
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
