#include "solver.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>

#include "auction.h"
#include "list_paths.h"
#include "candidates.h"
#include "certify.h"
#include "dense_paths.h"
#include "exactness.h"
#include "assignment/rows/parallel.h"
#include "plain_paths.h"
#include "small.h"

namespace bmatch {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr std::int64_t kUnlimited = std::numeric_limits<std::int64_t>::max();

// From this many entries on, starting threads pays.
constexpr std::int64_t kThreaded = std::int64_t{1} << 24;

class Solver {
 public:
  Solver(const RowScanner& costs, const Options& options, const Interrupted& interrupted)
      : costs_(costs),
        options_(options),
        threads_(options.threads > 0                                      ? options.threads
                 : std::int64_t{costs.rows()} * costs.cols() >= kThreaded ? -options.threads
                                                                          : 1),
        interrupted_(interrupted),
        rows_(costs.rows()),
        cols_(costs.cols()),
        solution_{Outcome::optimal, Matching(rows_, cols_), {}, 0.0, 0.0, {}, {}},
        matching_(solution_.matching),
        stats_(solution_.stats) {}

  Solution run();

 private:
  // Started when first wanted.
  Team& team() {
    if (team_ == nullptr) team_ = std::make_unique<Team>(threads_);
    return *team_;
  }
  bool square() const { return rows_ == cols_; }
  bool finished(Step step);

  void solve_small();
  bool solve_warm();
  void solve_large();
  bool first_pass();
  bool list_pass(Index first);
  bool few_values() const;
  double never() const;
  bool solve_sparse(double never);
  bool column_start();
  bool dense_finish(std::int64_t sweeps);
  bool reduce_and_augment(std::int64_t bids, ListPaths::Budget budget, double never = kInfinity);
  bool auction();
  bool augment_free(ListPaths::Budget& budget);
  bool dense_attempt(bool rows_agree = false);
  void restart_dense();
  void restart_plain();
  void finish_with_certificate();
  bool prices_dwarf_answer();
  bool all_minimal();

  const RowScanner& costs_;
  const Options& options_;
  const int threads_;
  const Interrupted& interrupted_;
  const Index rows_, cols_;
  Solution solution_;
  Matching& matching_;
  Stats& stats_;
  std::unique_ptr<Team> team_;
  std::unique_ptr<CandidateLists> lists_;
  ReusedVector<RowMinima> minima_;  // [rows], if they are the answer
  bool attempted_ = false;          // whole rows were tried
  bool whole_rows_ = false;         // the answer came from whole rows, from price zero
};

// True if the solve has ended, well or not; records why.
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

// ---- Whole rows --------------------------------------------------------------------------

void Solver::solve_small() {
  std::optional<PhaseTimer> timer;  // reading the clock takes a good part of the smallest solves
  if (options_.certificate) timer.emplace(stats_.path_seconds);
  SmallAnswer answer = bmatch::solve_small(costs_, matching_, stats_);
  finished(answer.step);
  solution_.trapped = std::move(answer.trapped);
  if (answer.dwarfed && !exact_on_a_grid(costs_, matching_)) restart_plain();
}

// Paths over whole rows for all free rows; false if `sweeps` rows were not enough.
bool Solver::dense_finish(std::int64_t sweeps) {
  PhaseTimer timer(stats_.path_seconds);
  DensePaths paths(costs_, matching_, stats_, interrupted_);
  const bool ended = finished(paths.augment_all(sweeps));
  if (solution_.outcome == Outcome::infeasible) solution_.trapped = paths.trapped();
  if (!ended && lists_ != nullptr) lists_->prices_changed(true);
  return ended;
}

// A try from price zero with whole rows, made once; on failure everything is as it was.  Where rows
// agree on the column they want, their own minima tell nothing and are left out.
bool Solver::dense_attempt(bool rows_agree) {
  if (attempted_) return false;
  attempted_ = true;
  PhaseTimer timer(stats_.path_seconds);
  Matching kept = std::move(matching_);
  matching_ = Matching(rows_, cols_);
  DensePaths paths(costs_, matching_, stats_, interrupted_);
  const std::int64_t n = rows_;
  Step step = rows_agree ? Step::done : paths.claim_minima();
  if (step == Step::done && square()) step = paths.reduce_columns();
  if (step == Step::done) {
    step = paths.reduce_rows(2 * static_cast<std::int64_t>(paths.free_rows()));
  }
  // Sums, differences and blocks of equal rows take n / 22 reads of the matrix, sometimes twice
  // that.
  const std::int64_t reads = std::max(n / 8, std::int64_t{48});
  if (step == Step::done) step = paths.augment_all(reads * n);
  if (step == Step::infeasible) solution_.trapped = paths.trapped();
  if (finished(step)) {
    whole_rows_ = true;
    return true;
  }
  matching_ = std::move(kept);
  return false;
}

void Solver::restart_dense() {
  matching_ = Matching(rows_, cols_);
  PhaseTimer timer(stats_.path_seconds);
  DensePaths paths(costs_, matching_, stats_, interrupted_);
  finished(paths.augment_all());
  if (solution_.outcome == Outcome::infeasible) solution_.trapped = paths.trapped();
  whole_rows_ = true;
}

// Once more, in the order in which SciPy adds.
void Solver::restart_plain() {
  matching_ = Matching(rows_, cols_);
  PhaseTimer timer(stats_.path_seconds);
  finished(plain_paths(costs_, options_.transposed, matching_, stats_, interrupted_));
  whole_rows_ = true;
}

// How many distinct values there are: many, if one is NaN, which is for the first pass to refuse.
std::ptrdiff_t distinct(std::vector<double>& values) {
  constexpr auto kMany = std::numeric_limits<std::ptrdiff_t>::max();
  if (std::any_of(values.begin(), values.end(), [](double x) { return x != x; })) return kMany;
  std::sort(values.begin(), values.end());
  return std::unique(values.begin(), values.end()) - values.begin();
}

// Few distinct values in a sample: rows tie in so many columns that lists of 32 mean nothing.
bool Solver::few_values() const {
  constexpr Index kRows = 4, kEntries = 64;
  std::vector<double> seen;
  for (Index r = 0; r < kRows; ++r) {
    const Index i = static_cast<Index>(std::int64_t{r} * (rows_ - 1) / (kRows - 1));
    for (Index k = 0; k < kEntries; ++k) {
      const auto j =
          static_cast<Index>((std::int64_t{k} * 2 + r) * (cols_ - 1) / (2 * kEntries + kRows));
      seen.push_back(costs_.cost(i, j));
    }
  }
  return distinct(seen) <= 64;
}

// ---- First pass --------------------------------------------------------------------------

// One read of the matrix from price zero; false if the solve has ended.  Minima alone as long as
// hardly any two rows want the same column: on well separated matrices they are the answer, and
// minima_ keeps them.  Lists from there on.
bool Solver::first_pass() {
  PhaseTimer timer(stats_.first_pass_seconds);
  minima_.resize(rows_);
  Index collisions = 0, end = 0;
  bool separated = true;
  const auto longest = static_cast<Index>(
      std::max<std::int64_t>(256, (std::int64_t{1} << 28) / cols_));  // about 0.1 s
  // Whether to go on is asked after the same rows for every number of threads.
  for (Index begin = 0; separated && begin < rows_; begin = end) {
    if (interrupted_()) return !finished(Step::interrupted);
    end = begin + std::min(std::clamp(begin, Index{64}, longest), rows_ - begin);
    parallel_rows(costs_, team(), begin, end, [&](Index i, int count, auto& scratch) {
      costs_.minima(i, count, minima_.data() + i, scratch);
    });
    stats_.row_reads += end - begin;
    for (Index i = begin; i < end; ++i) {
      if (!minima_[i].valid) return !finished(Step::invalid);
      const Index j = minima_[i].col;
      if (j == kNone || matching_.row_of_col[j] != kNone)
        ++collisions;
      else
        matching_.match(i, j);
    }
    // Most of the first rows want the same few columns.
    if (begin == 0 && square() && 4 * collisions >= 3 * end && dense_attempt(true)) {
      minima_.clear();
      return false;
    }
    separated = collisions <= 3 || collisions <= end / 64;
  }
  if (collisions == 0) return true;
  lists_ = std::make_unique<CandidateLists>(costs_, matching_, stats_, team());
  for (Index i = 0; i < end; ++i) lists_->adopt(i, minima_[i]);
  minima_.clear();
  if (!list_pass(end)) return false;
  Auction(matching_, *lists_, stats_, interrupted_).claim_tight();
  return true;
}

// Lists at present prices for all rows from `first` on; false if the solve has ended.
bool Solver::list_pass(Index first) {
  std::atomic<bool> valid{true};
  const auto step = static_cast<Index>(
      std::max<std::int64_t>(256, (std::int64_t{1} << 27) / cols_));  // about 0.1 s a thread
  for (Index begin = first; begin < rows_; begin += step) {
    if (interrupted_()) return !finished(Step::interrupted);
    const Index end = begin + std::min(step, rows_ - begin);
    parallel_rows(costs_, team(), begin, end, [&](Index i, int count, auto& scratch) {
      if (!lists_->scan(i, count, scratch)) valid.store(false, std::memory_order_relaxed);
    });
    stats_.row_reads += end - begin;
  }
  if (!valid) solution_.outcome = Outcome::invalid;
  return valid;
}

bool Solver::column_start() {
  PhaseTimer timer(stats_.first_pass_seconds);
  matching_ = Matching(rows_, cols_);
  std::vector<double> minima(rows_);
  for (Index i = 0; i < rows_; ++i) minima[i] = lists_->best(i).best;
  if (interrupted_()) return finished(Step::interrupted);
  const int count = team().threads();
  std::vector<std::vector<double>> parts(count);  // least_j over a part of the rows
  team().run([&](int part) {
    std::vector<double> part_least(padded(cols_), kInfinity);
    RowScanner::Scratch scratch = costs_.scratch();
    const auto end = static_cast<Index>(std::int64_t{rows_} * (part + 1) / count);
    for (auto i = static_cast<Index>(std::int64_t{rows_} * part / count); i < end; ++i) {
      if (minima[i] < kInfinity) costs_.lower(i, minima[i], part_least.data(), scratch);
    }
    parts[part] = std::move(part_least);
  });
  stats_.row_reads += rows_;
  std::vector<double> least = std::move(parts[0]);
  for (int part = 1; part < count; ++part) {
    for (Index j = 0; j < cols_; ++j) least[j] = std::min(least[j], parts[part][j]);
  }
  set_column_prices(matching_, least);
  lists_->prices_changed(false);
  return !list_pass(0);
}

// ---- Lists -------------------------------------------------------------------------------

bool Solver::augment_free(ListPaths::Budget& budget) {
  PhaseTimer timer(stats_.path_seconds);
  ListPaths paths(costs_, matching_, *lists_, stats_, interrupted_);
  for (Index i = 0; i < rows_; ++i) {
    if (matching_.col_of_row[i] != kNone) continue;
    const Step step = paths.augment(i, budget);
    if (step == Step::infeasible) solution_.trapped = paths.trapped();
    if (step != Step::done) return finished(step);
  }
  return true;
}

// Row reduction and paths from present prices, which keep every matched edge tight.
bool Solver::reduce_and_augment(std::int64_t bids, ListPaths::Budget budget, double never) {
  {
    PhaseTimer timer(stats_.auction_seconds);
    Auction auction(matching_, *lists_, stats_, interrupted_);
    if (never < kInfinity) auction.set_scale(lists_->mean_spread(), never);
    finished(auction.row_reduction(bids));
    if (solution_.outcome == Outcome::interrupted) return true;
    solution_.outcome = Outcome::optimal;  // a row without finite cost: the paths name it
  }
  return augment_free(budget);
}

bool Solver::auction() {
  const std::int64_t n = rows_;
  lists_->sample();
  const auto [gap, lead, magnitude, ties] = lists_->mean_gap();
  if (!(gap > 1e-6 * magnitude && gap < kInfinity)) {  // nothing to scale by: bids would crawl
    return dense_attempt() || reduce_and_augment(12 * n, {20 * n, kUnlimited}) ||
           dense_finish(kUnlimited);
  }

  Auction auction(matching_, *lists_, stats_, interrupted_);
  auction.set_scale(gap);
  // Most bids read a row again: lists do not hold what is wanted.  True if whole rows gave the
  // answer instead.
  auto hopeless = [&](std::int64_t rescans, std::int64_t bids) {
    const bool bad = 5 * (stats_.rescans - rescans) > 2 * (stats_.bids - bids) &&
                     stats_.rescans > (n <= 768 ? 4 : 16) * n;
    return bad && dense_attempt();
  };
  {
    PhaseTimer timer(stats_.auction_seconds);
    // Where most rows have a clear best, they hardly fight over prices: one small epsilon does.
    const bool clear = lead > 0.2 * gap;
    double epsilon = (clear ? 0.004 : 0.02) * gap;
    const double last = clear ? epsilon : 0.1 * epsilon;
    while (true) {
      const std::int64_t rescans = stats_.rescans, bids = stats_.bids;
      const Step step = auction.phase(epsilon, 4 * n);
      if (step == Step::interrupted) return finished(step);
      if (step != Step::budget_spent || auction.free_rows() <= n / 64) break;
      if (hopeless(rescans, bids)) return true;
      epsilon *= 4.0;
    }
    while (true) {
      Step step;
      for (std::int64_t budget = 48 * n;;) {
        const std::int64_t rescans = stats_.rescans, bids = stats_.bids;
        step = auction.phase(epsilon, 8 * n);
        if (step == Step::interrupted) return finished(step);
        if (step != Step::budget_spent) break;
        if (hopeless(rescans, bids)) return true;
        // Renewed as long as the bids are cheap.
        budget -= 8 * n;
        const bool cheap = 10 * (stats_.rescans - rescans) < 3 * (stats_.bids - bids);
        if (budget <= 0 && (!cheap || stats_.bids > 400 * n)) break;
      }
      if (step != Step::done || epsilon <= last) break;
      epsilon = std::max(epsilon / 10.0, last);
      step = auction.free_unhappy(epsilon);
      if (step == Step::interrupted) return finished(step);
    }
    finished(auction.free_unhappy(0.0));
    if (solution_.outcome == Outcome::interrupted) return true;
    auction.claim_tight();
    const Step step = auction.row_reduction(20 * n);
    if (step == Step::interrupted) return finished(step);
  }
  ListPaths::Budget budget{kUnlimited, n <= 2048 ? 64 : kUnlimited};
  return augment_free(budget) || dense_finish(kUnlimited);
}

// From the prices of a similar problem; false if that came to nothing.
bool Solver::solve_warm() {
  const auto& given = *options_.prices;
  double greatest = -kInfinity;
  for (const double price : given) {
    if (!std::isfinite(price)) return false;
    greatest = std::max(greatest, price);
  }
  for (Index j = 0; j < cols_; ++j) matching_.v[j] = given[j] - greatest;
  lists_ = std::make_unique<CandidateLists>(costs_, matching_, stats_, team());
  if (!list_pass(0)) return true;
  Auction(matching_, *lists_, stats_, interrupted_).claim_tight();
  const std::int64_t n = rows_;
  return reduce_and_augment(12 * n, {20 * n, kUnlimited}) || auction();
}

// The largest entry of a sample, if most entries are equal to it, "never" as it were, and more than
// a few lower ones stand between them; NaN otherwise.
double Solver::never() const {
  constexpr Index kSample = 64;
  std::vector<double> seen;
  auto most_are_largest = [&seen] {
    const double largest = *std::max_element(seen.begin(), seen.end());
    const auto count = std::count(seen.begin(), seen.end(), largest);
    return 4 * count >= 3 * static_cast<std::ptrdiff_t>(seen.size());
  };
  for (Index j = 0; j < std::min(kSample, cols_); ++j) seen.push_back(costs_.cost(0, j));
  if (!most_are_largest()) return kNan;  // as good as always: whole rows are read for few others
  seen.clear();
  for (const Index i : {rows_ / 3, rows_ / 2}) {
    for (Index j = 0; j < cols_; ++j) seen.push_back(costs_.cost(i, j));
  }
  if (!most_are_largest()) return kNan;
  const double largest = *std::max_element(seen.begin(), seen.end());
  return distinct(seen) > 4 ? largest : kNan;
}

// Lists of all entries below `never`, so that prices climb no further before the rest counts; false
// if that came to nothing.
bool Solver::solve_sparse(double never) {
  {
    PhaseTimer timer(stats_.first_pass_seconds);
    lists_ = std::make_unique<CandidateLists>(costs_, matching_, stats_, team());
    // So that they take a small part of the matrix's memory.
    std::int64_t room = std::int64_t{rows_} * cols_ / 64 + 64 * std::int64_t{rows_};
    for (Index i = 0; i < rows_; ++i) {
      if (i % 64 == 0 && interrupted_()) return finished(Step::interrupted);
      const Step step = lists_->list_below(i, never, room);
      if (step == Step::budget_spent) return false;
      if (step != Step::done) return finished(step);
    }
    if (square()) lists_->reduce_columns();
  }
  Auction(matching_, *lists_, stats_, interrupted_).claim_tight();
  const std::int64_t n = rows_;
  return reduce_and_augment(12 * n, {kUnlimited, 4 * n}, never);
}

void Solver::solve_large() {
  const std::int64_t n = rows_;
  if (square() && options_.prices != nullptr) {
    if (solve_warm()) return;
    matching_ = Matching(rows_, cols_);
    lists_.reset();
  }
  if (const double most = never(); most == most) {
    if (solve_sparse(most)) return;
    matching_ = Matching(rows_, cols_);
    lists_.reset();
    if (square() && dense_attempt()) return;
  }
  if (few_values()) {
    PhaseTimer timer(stats_.path_seconds);
    DensePaths paths(costs_, matching_, stats_, interrupted_);
    Step step = paths.claim_minima();
    if (step == Step::done) step = paths.reduce_rows(3 * n);
    if (step == Step::done) step = paths.augment_all(8 * n);
    if (finished(step)) {
      if (solution_.outcome == Outcome::infeasible) solution_.trapped = paths.trapped();
      whole_rows_ = true;
      return;
    }
    matching_ = Matching(rows_, cols_);
  }
  if (!first_pass() || lists_ == nullptr) return;
  Auction start(matching_, *lists_, stats_, interrupted_);
  if (square() && start.free_rows() > n / 2) {
    if (column_start()) return;
    start.claim_tight();
  }
  const std::int64_t free = start.free_rows();
  if (!square()) {
    // Auctions are out: prices of spare columns must stay zero.
    if (!reduce_and_augment(12 * n, {20 * n, kUnlimited})) dense_finish(kUnlimited);
    return;
  }
  // Rows tie with all that their lists hold: bids would crawl, and whole rows do better.
  const bool tied = lists_->all_tie();
  // Where paths are short and most rows have several best columns, more rows than otherwise.
  const double few = n <= 512 && lists_->mean_gap().ties > 0.8 ? 0.3 : 0.15;
  if (static_cast<double>(free) <= few * static_cast<double>(n) || tied) {
    if (reduce_and_augment(12 * n, {20 * n, tied ? 16 : kUnlimited})) return;
    if (tied && dense_finish(8 * n)) return;
  }
  if (auction()) return;
  restart_dense();
}

// ---- The answer --------------------------------------------------------------------------

void Solver::finish_with_certificate() {
  PhaseTimer timer(stats_.certificate_seconds);
  Certificate certificate;
  if (!minima_.empty()) {  // price zero: the row minima are the duals
    std::vector<double> u(rows_);
    for (Index i = 0; i < rows_; ++i) u[i] = minima_[i].best;
    certificate = certificate_of(costs_, matching_, std::move(u));
  } else if (lists_ != nullptr && !whole_rows_) {  // the bounds make the best of a list exact
    std::vector<double> u(rows_);
    lists_->prices_changed(true);
    for (Index i = 0; i < rows_; ++i) u[i] = lists_->best(i).best;
    certificate = certificate_of(costs_, matching_, std::move(u));
  } else {
    certificate = certify(costs_, matching_, team());
    stats_.row_reads += rows_;
  }
  solution_.u = std::move(certificate.u);
  solution_.objective = certificate.objective;
  solution_.gap = certificate.gap;
}

bool Solver::prices_dwarf_answer() {
  double greatest = 0.0;
  for (Index j = 0; j < cols_; ++j) greatest = std::max(greatest, std::fabs(matching_.v[j]));
  if (greatest == 0.0) return false;
  double magnitudes = 0.0;  // of the first rows; as a rule few of them settle it
  for (Index i = 0; i < rows_ && prices_dwarf(greatest, magnitudes, rows_); ++i) {
    magnitudes += std::fabs(costs_.cost(i, matching_.col_of_row[i]));
  }
  return prices_dwarf(greatest, magnitudes, rows_) && !all_minimal();
}

// Whether every row has its least cost, which proves the answer without any price; if so, prices
// become zero.
bool Solver::all_minimal() {
  PhaseTimer timer(stats_.certificate_seconds);
  ReusedVector<RowMinima> minima(rows_);
  for (Index i = 0; i < rows_; ++i) {
    minima[i].best = lists_ != nullptr ? lists_->least_cost(i) : kNan;
    stats_.row_reads += std::isnan(minima[i].best);
  }
  parallel_rows(costs_, team(), 0, rows_, [&](Index i, int count, auto& scratch) {
    const Index end = i + count;
    auto known = [&](Index row) { return !std::isnan(minima[row].best); };
    while (i < end) {
      Index stop = i;
      while (stop < end && !known(stop)) ++stop;
      if (stop > i) costs_.minima(i, stop - i, minima.data() + i, scratch);
      for (i = stop; i < end && known(i);) ++i;
    }
  });
  for (Index i = 0; i < rows_; ++i) {
    if (costs_.cost(i, matching_.col_of_row[i]) > minima[i].best) return false;
  }
  std::fill(matching_.v.begin(), matching_.v.end(), 0.0);
  minima_ = std::move(minima);
  return true;
}

Solution Solver::run() {
  if (rows_ == 0) return std::move(solution_);
  if (std::int64_t{rows_} * cols_ <= options_.small) {
    solve_small();
  } else {
    solve_large();
    if (solution_.outcome == Outcome::optimal && prices_dwarf_answer() &&
        !exact_on_a_grid(costs_, matching_)) {
      restart_plain();
    }
  }
  if (solution_.outcome == Outcome::optimal && options_.certificate) finish_with_certificate();
  return std::move(solution_);
}

}  // namespace

Solution solve(const RowScanner& costs, const Options& options, const Interrupted& interrupted) {
  return Solver(costs, options, interrupted).run();
}

}  // namespace bmatch
