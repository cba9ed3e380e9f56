// Solves random problems by every route and every instruction set of the machine, and checks each
// answer by its certificate alone.
// Built by tests/native/test_native.py under sanitizers; exits with 1 on the first wrong answer.
// Usage: solver_check [rounds [sets]]: on so many instruction sets, the widest first; on all.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "assignment/batch.h"
#include "assignment/rows/dense_scanner.h"
#include "assignment/rows/fetched_scanner.h"
#include "assignment/margin.h"
#include "assignment/partial.h"
#include "assignment/solver.h"
#include "instruction_set.h"

using namespace bmatch;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
const Interrupted kNever = [] { return false; };

struct Problem {
  Index rows, cols;
  std::vector<double> cost;
};

Problem make(std::mt19937& r, int kind, Index rows, Index cols) {
  Problem p{rows, cols, std::vector<double>(static_cast<std::size_t>(rows) * cols)};
  std::uniform_real_distribution<double> uniform(0.0, 1.0);
  std::vector<double> a(rows), b(cols);
  for (double& x : a) x = uniform(r);
  for (double& x : b) x = uniform(r);
  for (Index i = 0; i < rows; ++i) {
    for (Index j = 0; j < cols; ++j) {
      double c = uniform(r);
      switch (kind) {
        case 1:
          c = std::floor(c * 3.0);
          break;
        case 2:
          c = std::fabs(a[i] - b[j]);
          break;
        case 3:
          c = a[i] * b[j];
          break;
        case 4:
          c = 1.0;
          break;
        case 5:
          c = c < 0.6 ? kInf : c;
          break;
        case 6:
          c = std::pow(10.0, 60.0 * c - 30.0);
          break;
        case 7:
          c = b[j];
          break;
        case 8:  // most rows and columns are plateaus, and some pairs are forbidden
          c = j < cols / 3 || i < rows / 4 ? 0.0 : c < 0.1 ? kInf : c;
          break;
        default:
          break;
      }
      p.cost[static_cast<std::size_t>(i) * cols + j] = c;
    }
  }
  return p;
}

void fail(const char* what, int kind, const Problem& p) {
  std::printf("%s: kind %d, %d x %d\n", what, kind, p.rows, p.cols);
  std::exit(1);
}

void verify(int kind, const Problem& p, const RowScanner& costs, const Solution& s) {
  if (s.outcome == Outcome::infeasible) {
    Index reached = 0;
    for (Index j = 0; j < p.cols; ++j) {
      reached += std::any_of(s.trapped.begin(), s.trapped.end(),
                             [&](Index i) { return costs.cost(i, j) < kInf; });
    }
    if (reached >= static_cast<Index>(s.trapped.size())) fail("no proof of infeasibility", kind, p);
    return;
  }
  if (s.outcome != Outcome::optimal) fail("no answer", kind, p);
  double scale = 0.0;
  for (const double c : p.cost) {
    if (std::isfinite(c)) scale = std::max(scale, std::fabs(c));
  }
  std::vector<int> taken(p.cols, 0);
  for (Index i = 0; i < p.rows; ++i) {
    if (++taken[s.matching.col_of_row[i]] > 1) fail("column taken twice", kind, p);
    for (Index j = 0; j < p.cols; ++j) {
      const double reduced = costs.cost(i, j) - s.u[i] - s.matching.v[j];
      if (!(reduced >= -1e-12 * scale)) fail("dual not feasible", kind, p);
    }
  }
  for (Index j = 0; p.rows < p.cols && j < p.cols; ++j) {
    const double v = s.matching.v[j];
    if (v > 0.0 || (taken[j] == 0 && v != 0.0)) fail("price of a spare column", kind, p);
  }
  if (!(s.gap <= 1e-12 * scale * p.cols)) fail("gap", kind, p);
  const Margins m = margins(costs, s.matching, s.u, 4, kNever);
  if (static_cast<Index>(m.loss.size()) != p.rows) fail("margins", kind, p);
}

// Rows may stay out, at a limit: duals prove it as those of lap's extended matrix would.
void verify_limit(int kind, const Problem& p, const RowScanner& costs, double limit,
                  const Solution& s) {
  if (s.outcome != Outcome::optimal) fail("no answer under a limit", kind, p);
  double scale = std::fabs(limit);
  for (const double c : p.cost) {
    if (std::isfinite(c)) scale = std::max(scale, std::fabs(c));
  }
  const double nothing = 1e-12 * scale * p.cols;
  for (Index i = 0; i < p.rows; ++i) {
    const Index own = s.matching.col_of_row[i];
    if (own == kNone ? s.u[i] != limit : !(costs.cost(i, own) <= limit)) fail("limit", kind, p);
    if (!(s.u[i] <= limit + nothing)) fail("row dual above the limit", kind, p);
    for (Index j = 0; j < p.cols; ++j) {
      const double reduced = costs.cost(i, j) - s.u[i] - s.matching.v[j];
      if (!(reduced >= -nothing)) fail("dual not feasible under a limit", kind, p);
      if (j == own && !(reduced <= nothing)) fail("pair not tight under a limit", kind, p);
    }
  }
  for (Index j = 0; j < p.cols; ++j) {
    const double v = s.matching.v[j];
    if (v > 0.0 || (s.matching.row_of_col[j] == kNone && !(v >= -nothing))) {
      fail("price of a column under a limit", kind, p);
    }
  }
}

// As many pairs as possible: no alternating path leads from a free row to a free column.
void verify_most(int kind, const Problem& p, const RowScanner& costs, const Solution& s) {
  if (s.outcome != Outcome::optimal) fail("no answer with as many pairs as possible", kind, p);
  std::vector<Index> reached;
  std::vector<bool> seen(p.cols, false);
  for (Index i = 0; i < p.rows; ++i) {
    if (s.matching.col_of_row[i] == kNone) reached.push_back(i);
  }
  while (!reached.empty()) {
    const Index i = reached.back();
    reached.pop_back();
    for (Index j = 0; j < p.cols; ++j) {
      if (seen[j] || !(costs.cost(i, j) < kInf)) continue;
      seen[j] = true;
      if (s.matching.row_of_col[j] == kNone) fail("more pairs are possible", kind, p);
      reached.push_back(s.matching.row_of_col[j]);
    }
  }
}

// As if the matrix lay on a device: its first pass by `costs`, rows copied when they are asked for.
template <typename T>
Solution solve_fetched(const DenseScanner<T>& costs, const std::vector<T>& stored,
                       const Partial& partial, const Options& options) {
  const Index rows = costs.rows(), cols = costs.cols();
  std::vector<RowMinima> minima(rows);
  std::vector<double> list_cost(std::size_t{kListCapacity} * rows, kInf), bound(rows);
  std::vector<Index> list_col(list_cost.size(), 0);
  RowScanner::Scratch scratch = costs.scratch();
  for (Index i = 0; i < rows; ++i) {
    costs.minima(i, 1, &minima[i], scratch);
    const std::size_t at = std::size_t{kListCapacity} * i;
    CandidateRow list{&list_cost[at], &list_col[at]};
    costs.candidates(&i, 1, {}, &list, scratch);
    std::fill(list.cost + list.size, list.cost + kListCapacity, kInf);
    bound[i] = list.bound;
  }
  std::vector<T> copy(stored.size(), std::numeric_limits<T>::quiet_NaN());
  const FetchedScanner<T> fetched({copy.data(), rows, cols, cols, 1, Sense::minimize},
                                  {minima.data(), list_cost.data(), list_col.data(), bound.data()},
                                  [&](const std::vector<Index>& wanted) {
                                    for (const Index i : wanted) {
                                      const auto from = stored.begin() + std::ptrdiff_t{i} * cols;
                                      std::copy(from, from + cols,
                                                copy.begin() + std::ptrdiff_t{i} * cols);
                                    }
                                  });
  return solve_partial(fetched, partial, options, kNever);
}

// As if rows were made when they are asked for: none lies in memory.
class MadeScanner final : public RowScanner {
 public:
  explicit MadeScanner(const Problem& p) : p_(p) {}

  Index rows() const override { return p_.rows; }
  Index cols() const override { return p_.cols; }
  StoredRow row(Index i, double* room) const override {
    std::copy_n(p_.cost.begin() + std::ptrdiff_t{i} * p_.cols, p_.cols, room);
    return {room, Sense::minimize};
  }
  double cost(Index i, Index j) const override {
    return p_.cost[static_cast<std::size_t>(i) * p_.cols + j];
  }
  AnyCostView whole() const override {
    return CostView<double>{p_.cost.data(), p_.rows, p_.cols, p_.cols, 1, Sense::minimize};
  }

 private:
  const Problem& p_;
};

// The same answer from rows that are made as from rows that lie in memory.
void check_made(int kind, const Problem& p, const Options& options) {
  const DenseScanner<double> costs({p.cost.data(), p.rows, p.cols, p.cols, 1, Sense::minimize});
  const Solution expected = solve(costs, options, kNever);
  const Solution made = solve(MadeScanner(p), options, kNever);
  if (made.outcome != expected.outcome || made.u != expected.u ||
      made.trapped != expected.trapped ||
      made.matching.col_of_row != expected.matching.col_of_row ||
      made.matching.v != expected.matching.v) {
    fail("rows that are made", kind, p);
  }
}

template <typename T>
void check(int kind, const Problem& p, const Options& options) {
  const std::vector<T> stored(p.cost.begin(), p.cost.end());
  const DenseScanner<T> costs({stored.data(), p.rows, p.cols, p.cols, 1, Sense::minimize});
  verify(kind, p, costs, solve(costs, options, kNever));
  verify(kind, p, costs, solve_fetched(costs, stored, {}, options));
  std::vector<T> columns(stored.size());
  for (std::int64_t i = 0; i < p.rows; ++i) {
    for (std::int64_t j = 0; j < p.cols; ++j) columns[j * p.rows + i] = stored[i * p.cols + j];
  }
  const DenseScanner<T> turned({columns.data(), p.rows, p.cols, 1, p.rows, Sense::minimize});
  verify(kind, p, costs, solve(turned, options, kNever));
  const double low = stored.front(), high = stored.back();
  for (const double limit : {low, 0.3 * high, 2.0 * high, -1.0}) {
    if (!(limit < kInf)) continue;
    const Partial partial{limit, false};
    verify_limit(kind, p, costs, limit, solve_partial(costs, partial, options, kNever));
    verify_limit(kind, p, costs, limit, solve_fetched(costs, stored, partial, options));
  }
  verify_most(kind, p, costs, solve_partial(costs, {kInf, true}, options, kNever));
  verify_most(kind, p, costs, solve_fetched(costs, stored, {kInf, true}, options));
}

// 27 rounds have every kind of costs with every number of threads.
void check_all(int rounds) {
  std::mt19937 r(7);
  std::uniform_int_distribution<int> side(1, 90), spare(0, 40), coin(0, 1);
  for (int round = 0; round < rounds; ++round) {
    const int kind = round % 9;
    const auto rows = static_cast<Index>(side(r));
    const auto cols = static_cast<Index>(rows + (coin(r) ? spare(r) : 0));
    const Problem p = make(r, kind, rows, cols);
    for (const std::int64_t small : {std::int64_t{0}, kSmall}) {
      Options options;
      options.small = small;
      options.threads = 1 + round / 9 % 3;
      check<double>(kind, p, options);
      check<float>(kind, p, options);
      check_made(kind, p, options);
    }
  }
  // Warm starts, threads in the first pass, lists at their real size.
  for (int kind = 0; kind < 9; ++kind) {
    const Problem p = make(r, kind, 300, 300);
    Options options;
    options.threads = 3;
    check<float>(kind, p, options);
    std::vector<double> prices(300);
    for (double& price : prices) price = -std::fabs(static_cast<double>(r() % 100));
    options.prices = &prices;
    check<double>(kind, p, options);
  }
  // Batches in threads, called from several threads at once.
  const Problem many = make(r, 1, 40 * 20, 30);
  std::vector<std::thread> callers;
  std::vector<std::vector<std::int64_t>> answers(3, std::vector<std::int64_t>(40 * 20));
  for (auto& answer : answers) {
    callers.emplace_back([&] {
      const BatchView<double> batch{many.cost.data(), 40, 20, 30, 20 * 30, 30, 1, Sense::minimize};
      solve_batch(batch, 3, answer.data(), kNever);
    });
  }
  for (std::thread& caller : callers) caller.join();
  if (answers[0] != answers[1] || answers[0] != answers[2]) fail("batches differ", 1, many);
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 270;
  std::vector<InstructionSet> sets = instruction_sets();
  if (argc > 2) sets.resize(std::min<std::size_t>(sets.size(), std::atoi(argv[2])));
  for (const InstructionSet set : sets) {
    use(name_of(set));
    check_all(rounds);
  }
  std::puts("all checked");
  return 0;
}
