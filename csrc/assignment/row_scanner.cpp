#include "row_scanner.h"

#include <algorithm>

namespace bmatch {

namespace {
const RowScans<double>& scans() { return row_kernels().f64; }
}  // namespace

Progress RowScanner::solve_small(SmallProblem& problem) const {
  std::vector<double> matrix(static_cast<std::size_t>(rows()) * cols()), scratch(padded(cols()));
  for (Index i = 0; i < rows(); ++i) {
    const double* costs = row(i, scratch.data());
    std::copy_n(costs, cols(), matrix.begin() + std::int64_t{i} * cols());
  }
  return row_kernels().small_f64({matrix.data(), rows(), cols(), cols(), 1, Sense::minimize},
                                 problem);
}

RowMinima RowScanner::minima(Index i, Scratch& scratch) const {
  return scans().minima(row(i, scratch.data()), cols(), {});
}

void RowScanner::candidates(Index i, PriceView prices, Index start, CandidateRow& out,
                            Scratch& scratch) const {
  scans().candidates(row(i, scratch.data()), cols(), {}, prices, start, out);
}

BestTwo RowScanner::best_two(Index i, const double* v, const std::uint8_t* free,
                             Scratch& scratch) const {
  return scans().best_two(row(i, scratch.data()), cols(), {}, v, free);
}

void RowScanner::relax(Index i, double base, PathState& state, Scratch& scratch) const {
  scans().relax(row(i, scratch.data()), cols(), {}, i, base, state);
}

void RowScanner::lower(Index i, double u, double* least, Scratch& scratch) const {
  scans().lower(row(i, scratch.data()), cols(), {}, u, least);
}

bool RowScanner::widen(Index i, double* out, Scratch& scratch) const {
  return scans().widen(row(i, scratch.data()), cols(), {}, out);
}

}  // namespace bmatch
