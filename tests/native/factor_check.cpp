// Costs from factors against plain sums, bit by bit: for every cost, dtype, number of terms, rows
// at a time and stretch of columns, from either side, by every instruction set of the machine; and
// solves of them against those of the same matrix in memory.  Built by tests/native/test_native.py
// under sanitizers; exits with 1 at the first difference.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "assignment/partial.h"
#include "assignment/rows/block_scanner.h"
#include "assignment/rows/dense_scanner.h"
#include "assignment/rows/factor_scanner.h"
#include "assignment/solver.h"
#include "instruction_set.h"

using namespace bmatch;

namespace {

const Interrupted kNever = [] { return false; };

void require(bool holds, const char* what, FactorCost cost, Index terms) {
  if (holds) return;
  std::printf("%s: cost %d, %d terms, %s\n", what, static_cast<int>(cost), terms,
              name_of(instruction_set()));
  std::exit(1);
}

bool same_bits(double a, double b) { return std::memcmp(&a, &b, sizeof a) == 0; }

template <typename T>
double inverse_norm(const T* x, Index terms) {
  double squares = 0.0;
  for (Index t = 0; t < terms; ++t) squares += static_cast<double>(x[t]) * x[t];
  return squares > 0.0 ? 1.0 / std::sqrt(squares) : 0.0;
}

// What the header says, read literally.
template <typename T>
double plain(const T* x, const T* y, Index terms, FactorCost cost) {
  double sum = 0.0;
  for (Index t = 0; t < terms; ++t) {
    const double a = x[t], b = y[t], d = a - b;
    sum += is_distance(cost) ? d * d : a * b;
  }
  if (is_cosine(cost)) sum *= inverse_norm(x, terms) * inverse_norm(y, terms);
  if (is_magnitude(cost)) sum = std::fabs(sum);
  return cost == FactorCost::euclidean ? std::sqrt(sum) : sum;
}

template <typename T>
void check(std::mt19937& r, FactorCost cost, Index rows, Index cols, Index terms) {
  std::normal_distribution<double> normal;
  const auto draw = [&](Index count) {
    std::vector<T> factors(static_cast<std::size_t>(count) * terms);
    for (T& f : factors) f = static_cast<T>(std::ldexp(normal(r), static_cast<int>(r() % 30) - 15));
    std::fill_n(factors.begin(), terms, T{0});  // a row of zeros
    return factors;
  };
  const std::vector<T> x = draw(rows), y = draw(cols);
  const FactorView<T> of_rows{x.data(), rows, terms}, of_cols{y.data(), cols, terms};
  const std::int64_t bytes = 8 * (rows / 2) * cols;
  const FactorScanner<T> costs(of_rows, of_cols, cost, Sense::maximize, bytes);
  std::vector<double> stored(static_cast<std::size_t>(rows) * cols);
  for (Index i = 0; i < rows; ++i) {
    for (Index j = 0; j < cols; ++j) {
      double& c = stored[static_cast<std::size_t>(i) * cols + j];
      c = plain(of_rows.row(i), of_cols.row(j), terms, cost);
      require(same_bits(costs.entry(i, j), c), "entry", cost, terms);
      require(same_bits(costs.cost(i, j), -c), "cost", cost, terms);
    }
  }
  const auto at = [&](Index i, Index j) { return stored[static_cast<std::size_t>(i) * cols + j]; };

  // Rows in no order, so many at a time, some columns of each.
  for (const int count : {1, 2, 3, 5, 8, 11, 16}) {
    const auto first = static_cast<Index>(r() % cols) / kPanel * kPanel;
    const auto end = static_cast<Index>(first + 1 + r() % (cols - first));
    std::vector<Index> wanted(count);
    std::vector<std::vector<double>> room(count, std::vector<double>(end - first));
    std::vector<double*> out(count);
    for (int k = 0; k < count; ++k) {
      wanted[k] = static_cast<Index>(r() % rows);
      out[k] = room[k].data();
    }
    costs.entries(wanted.data(), count, first, end, out.data());
    for (int k = 0; k < count; ++k) {
      for (Index j = first; j < end; ++j) {
        require(same_bits(out[k][j - first], at(wanted[k], j)), "block", cost, terms);
      }
    }
  }
  // Whole rows, made, then kept, then kept still; and columns as rows.
  RowScanner::Scratch scratch = costs.scratch();
  std::vector<double> room(static_cast<std::size_t>(std::max(rows, cols)));
  for (int time = 0; time < 3; ++time) {
    for (Index i = 0; i < rows; ++i) {
      const double* const row = std::get<const double*>(costs.row(i, room.data()).entries);
      for (Index j = 0; j < cols; ++j) require(same_bits(row[j], at(i, j)), "row", cost, terms);
    }
  }
  const std::unique_ptr<RowScanner> columns = costs.columns();
  for (Index j = 0; j < cols; ++j) {
    const double* const column = std::get<const double*>(columns->row(j, room.data()).entries);
    for (Index i = 0; i < rows; ++i) require(same_bits(column[i], at(i, j)), "column", cost, terms);
  }

  // The scans that it overrides, and solves, as of the matrix in memory.
  const DenseScanner<double> dense({stored.data(), rows, cols, cols, 1, Sense::maximize});
  std::vector<RowMinima> found(rows), wanted(rows);
  costs.minima(0, rows, found.data(), scratch);
  dense.minima(0, rows, wanted.data(), scratch);
  for (Index i = 0; i < rows; ++i) {
    require(found[i].best == wanted[i].best && found[i].second == wanted[i].second &&
                found[i].col == wanted[i].col && found[i].valid,
            "minima", cost, terms);
  }
  if (rows > cols) return;
  const Index block = 7;
  const BlockScanner called(
      rows, cols, block, Sense::maximize, bytes, [&](Index first, Index count, double* out) {
        require(first % block == 0, "first row", cost, terms);
        require(count == std::min(block, rows - first), "rows", cost, terms);
        std::copy_n(stored.data() + std::int64_t{first} * cols, std::int64_t{count} * cols, out);
      });
  for (const double limit : {std::numeric_limits<double>::infinity(), -0.5}) {
    for (const int threads : {1, 2}) {
      Options options;
      options.threads = threads;
      options.small = 0;
      const Solution other = solve_partial(dense, {limit, false}, options, kNever);
      for (const RowScanner* made :
           {static_cast<const RowScanner*>(&costs), static_cast<const RowScanner*>(&called)}) {
        const Solution s = solve_partial(*made, {limit, false}, options, kNever);
        require(s.outcome == Outcome::optimal, "outcome", cost, terms);
        const double scale = std::max(1.0, std::fabs(other.objective));
        require(std::fabs(s.objective - other.objective) <= 1e-12 * scale, "sum", cost, terms);
        require(s.gap <= 1e-12 * scale, "gap", cost, terms);
      }
    }
  }
}

void check_all() {
  std::mt19937 r(5);
  for (int round = 0; round < 36; ++round) {
    const auto cost = static_cast<FactorCost>(round % 6);
    const auto rows = static_cast<Index>(1 + r() % 40);
    const auto cols = static_cast<Index>(1 + r() % (round % 5 == 0 ? 1500 : 150));
    const auto terms = static_cast<Index>(round % 7 == 0 ? r() % 100 : 1 + r() % 9);
    check<float>(r, cost, rows, cols, terms);
    check<double>(r, cost, rows, cols, terms);
  }
}

}  // namespace

int main() {
  for (const InstructionSet set : instruction_sets()) {
    use(name_of(set));
    check_all();
  }
  std::puts("all checked");
  return 0;
}
