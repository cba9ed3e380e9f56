#include "small.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <variant>

#include "exactness_rule.h"
#include "policy.h"

namespace bmatch {
namespace {

// Memory of the calling thread, kept from call to call: for a small matrix, getting it anew would
// cost as much as the solve.
class Arena {
 public:
  // Forgets what was taken, and makes sure of `bytes` in all.
  void reset(std::size_t bytes) {
    if (bytes > size_) {
      size_ = 2 * bytes;
      memory_.reset(new std::byte[size_]);
    }
    const auto start = reinterpret_cast<std::uintptr_t>(memory_.get());
    used_ = (64 - start % 64) % 64;
  }
  template <typename T>
  T* take(std::size_t count) {
    T* const p = reinterpret_cast<T*>(memory_.get() + used_);
    used_ += (count * sizeof(T) + 63) / 64 * 64;
    return p;
  }

 private:
  std::unique_ptr<std::byte[]> memory_;
  std::size_t size_ = 0, used_ = 0;
};

thread_local Arena arena;

// Whether rounding at the scale of the prices may outweigh the answer (solver.h), unless every row
// has its least cost.
bool prices_dwarf_answer(const SmallProblem& p) {
  double greatest = 0.0;
  for (Index j = 0; j < p.cols; ++j) greatest = std::max(greatest, std::fabs(p.price[j]));
  if (greatest == 0.0) return false;
  double magnitudes = 0.0;
  bool minimal = true;
  for (Index i = 0; i < p.rows; ++i) {
    const double c = p.cost[std::int64_t{i} * p.stride + p.col_of_row[i]];
    magnitudes += std::fabs(c);
    minimal &= c <= p.minimum[i];
  }
  return prices_dwarf(greatest, magnitudes, p.rows) && !minimal;
}

}  // namespace

SmallAnswer solve_small(const RowScanner& costs, Matching& matching, Stats& stats) {
  SmallProblem p{};
  p.rows = costs.rows();
  p.cols = costs.cols();
  p.stride = (p.cols + 7) / 8 * 8;
  p.trapped_from = kNone;
  p.hurries = p.rows == p.cols && p.rows >= kHurriedRows;
  const auto n = static_cast<std::size_t>(p.rows), m = static_cast<std::size_t>(p.stride);
  arena.reset(8 * n * m + 64 * (n + m) + 1024);
  p.cost = arena.take<double>(n * m);
  p.minimum = arena.take<double>(n);
  p.price = arena.take<double>(m);
  p.distance = arena.take<double>(m);
  p.settled = arena.take<SmallProblem::Settled>(n);
  p.free_rows = arena.take<Index>(n);
  p.predecessor = arena.take<Index>(m);
  p.free = arena.take<std::uint8_t>(m / 8);
  p.settled_bits = arena.take<std::uint8_t>(m / 8);
  p.col_of_row = matching.col_of_row.data();
  p.row_of_col = matching.row_of_col.data();

  const RowKernels& kernels = row_kernels();
  const AnyCostView whole = costs.whole();
  const auto* const single = std::get_if<CostView<float>>(&whole);
  const Step step = single != nullptr ? kernels.small_f32(*single, p)
                                      : kernels.small_f64(std::get<CostView<double>>(whole), p);
  stats.row_reads += p.rows;
  stats.bids += p.bids;
  stats.augmentations += p.augmentations;
  SmallAnswer answer{step, false, {}};
  if (step == Step::done) {
    std::copy_n(p.price, p.cols, matching.v.begin());
    answer.dwarfed = prices_dwarf_answer(p);
  }
  if (step == Step::infeasible) {
    answer.trapped.push_back(p.trapped_from);
    for (Index k = 0; k < p.settled_count; ++k) {
      answer.trapped.push_back(p.row_of_col[p.settled[k].col]);
    }
    std::sort(answer.trapped.begin(), answer.trapped.end());
  }
  return answer;
}

}  // namespace bmatch
