#include "row_scanner.h"

#include <algorithm>
#include <vector>

namespace bmatch {

namespace {
const RowScans<double>& scans() { return row_kernels().f64; }
}  // namespace

Step RowScanner::solve_small(SmallProblem& problem) const {
  std::vector<double> matrix(static_cast<std::size_t>(rows()) * cols()), scratch(cols());
  for (Index i = 0; i < rows(); ++i) {
    const double* costs = row(i, scratch.data());
    std::copy_n(costs, cols(), matrix.begin() + std::int64_t{i} * cols());
  }
  return row_kernels().small_f64({matrix.data(), rows(), cols(), cols(), 1, Sense::minimize},
                                 problem);
}

void RowScanner::minima(Index first, int count, RowMinima* out, Scratch& scratch) const {
  for (int k = 0; k < count; ++k) {
    const double* costs = row(first + k, scratch.row());
    scans().minima({1, {costs}, {first + k}, {costs}}, cols(), {}, scratch.cells(), out + k);
  }
}

void RowScanner::candidates(const Index* rows, int count, PriceView prices, CandidateRow* out,
                            Scratch& scratch) const {
  for (int k = 0; k < count; ++k) {
    const double* costs = row(rows[k], scratch.row());
    scans().candidates({1, {costs}, {rows[k]}, {costs}}, cols(), {}, prices, scratch.cells(),
                       out + k);
  }
}

BestTwo RowScanner::best_two(Index i, const double* v, const std::uint8_t* free,
                             Scratch& scratch) const {
  return scans().best_two(row(i, scratch.row()), cols(), {}, v, free);
}

Claim RowScanner::claim(Index i, const double* v, const std::uint8_t* free,
                        Scratch& scratch) const {
  return scans().claim(row(i, scratch.row()), cols(), {}, v, free);
}

void RowScanner::relax(Index i, double base, PathState& state, Scratch& scratch) const {
  scans().relax(row(i, scratch.row()), cols(), {}, i, base, state);
}

void RowScanner::lower(Index i, double u, double* least, Scratch& scratch) const {
  scans().lower(row(i, scratch.row()), cols(), {}, u, least);
}

bool RowScanner::on_grid(Index i, double grid, Scratch& scratch) const {
  return scans().on_grid(row(i, scratch.row()), cols(), {}, grid);
}

}  // namespace bmatch
