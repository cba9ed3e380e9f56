#include "small.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <variant>

#include "exactness.h"
#include "exactness_rule.h"
#include "policy.h"
#include "samples.h"

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
    const double c = p.cost(i, p.col_of_row[i]);
    magnitudes += std::fabs(c);
    minimal &= c <= p.minimum[i];
  }
  return prices_dwarf(greatest, magnitudes, p.rows) && !minimal;
}

void lay_out(SmallProblem& p, Index rows, Index cols) {
  p.rows = rows;
  p.cols = cols;
  p.stride = (cols + 7) / 8 * 8;
  const auto n = static_cast<std::size_t>(rows), m = static_cast<std::size_t>(p.stride);
  p.copy = arena.take<double>(n * m);
  p.minimum = arena.take<double>(n);
  p.price = arena.take<double>(m);
  p.distance = arena.take<double>(m);
  p.settled = arena.take<SmallProblem::Settled>(n);
  p.free_rows = arena.take<Index>(n);
  p.predecessor = arena.take<Index>(m);
  p.free = arena.take<std::uint8_t>((m + 63) / 64 * 8);  // read by 64 columns
}

std::size_t bytes(Index rows, Index cols) {
  const auto n = static_cast<std::size_t>(rows), m = static_cast<std::size_t>(cols + 7);
  return 8 * n * m + 64 * (n + m) + 1024;
}

// Whether costs may be read where they are, and nothing but the last row be copied.
template <typename T>
bool can_be_read_in_place(const CostView<T>& view) {
  return view.col_stride == 1 && view.rows * view.cols >= kReadInPlace &&
         (view.row_stride == view.cols || view.cols % 8 == 0);
}

template <typename T>
bool load(const CostView<T>& view, const SmallKernels& kernels, SmallProblem& p) {
  Index seen = 0;
  if (can_be_read_in_place(view)) {
    T* const last = arena.take<T>(static_cast<std::size_t>(p.stride));
    if constexpr (sizeof(T) == 4)
      seen = kernels.read_f32(view, last, p);
    else
      seen = kernels.read_f64(view, last, p);
    if (seen == p.rows) return true;
  }
  if constexpr (sizeof(T) == 4)
    return kernels.copy_f32(view, seen, p);
  else
    return kernels.copy_f64(view, seen, p);
}

// A square problem from both of its sides.
class TwoSided {
 public:
  TwoSided(const RowScanner& costs, SmallProblem& rows, const SmallKernels& kernels)
      : costs_(costs), kernels_(kernels), side_{&rows, &columns_} {}

  Step solve() {
    SmallProblem& rows = *side_[0];
    if (is_above(rows.waiting - rows.flat, rows.rows, kHalf) && fewer_columns_are_plateaus()) {
      turn();
      kernels_.claim(columns_);
    }
    std::int64_t reads = kTurnReads * rows.rows;
    side_[at_]->most_reads = reads;
    Step step = kernels_.start(*side_[at_]);
    if (step == Step::budget_spent && (side_[at_]->crowded || many_are_left())) return step;
    while (step == Step::budget_spent) {
      reads *= kMoreReads;
      step = resume_from_other(reads);
    }
    if (at_ == 0) return step;
    // The rows that compete are wanted of the rows' own side, and prices of columns.
    if (step == Step::infeasible) return resume_from_other(kUnlimited);
    if (step == Step::done) price_from(columns_, rows);
    return step;
  }

 private:
  void turn() {
    SmallProblem& rows = *side_[0];
    lay_out(columns_, rows.cols, rows.rows);
    columns_.col_of_row = rows.row_of_col;
    columns_.row_of_col = rows.col_of_row;
    columns_.may_pause = true;
    kernels_.turn(rows, columns_);
    at_ = 1;
  }

  bool fewer_columns_are_plateaus() const {
    const SmallProblem& p = *side_[0];
    const auto sampled = [&](const auto& of) {
      const auto cost = [&](Index i, Index j) { return of.cost(i, j, p.rows); };
      return agreements(p.rows, p.cols, cost);
    };
    return std::visit(sampled, p.costs).fewer_columns_are_plateaus();
  }

  // Of the rows that do not wait, where most costs are alike.
  bool many_are_left() const {
    const SmallProblem& p = *side_[at_];
    if (p.rows < kManyLeftRows) return false;
    const auto free = std::count(p.col_of_row, p.col_of_row + p.rows, kNone);
    return is_above(free - p.waiting, p.rows, kManyLeft) && has_few_values(costs_);
  }

  void price_from(SmallProblem& from, SmallProblem& to) {
    std::fill_n(to.price, to.stride, -kInfinity);
    kernels_.row_duals(from, to.price);
  }

  Step resume_from_other(std::int64_t reads) {
    SmallProblem& from = *side_[at_];
    if (columns_.rows == 0)
      turn();
    else
      at_ = 1 - at_;
    SmallProblem& to = *side_[at_];
    price_from(from, to);
    to.most_reads = reads == kUnlimited ? reads : to.reads + reads;
    return kernels_.resume(to);
  }

  const RowScanner& costs_;
  const SmallKernels& kernels_;
  SmallProblem columns_{};
  SmallProblem* const side_[2];
  int at_ = 0;
};

}  // namespace

SmallAnswer solve_small(const RowScanner& costs, Matching& matching, Stats& stats,
                        bool may_hand_on) {
  const bool large_enough = costs.rows() >= kTwoSidedRows;
  const bool two_sided = large_enough && costs.rows() == costs.cols();
  arena.reset((two_sided ? 2 : 1) * bytes(costs.rows(), costs.cols()));
  SmallProblem p{};
  p.trapped_from = kNone;
  p.may_pause = two_sided;
  p.may_hand_on = large_enough && may_hand_on;
  p.most_reads = kUnlimited;
  lay_out(p, costs.rows(), costs.cols());
  p.col_of_row = matching.col_of_row.data();
  p.row_of_col = matching.row_of_col.data();

  const SmallKernels& kernels = row_kernels().small;
  const AnyCostView whole = costs.whole();
  const bool valid = std::visit([&](const auto& view) { return load(view, kernels, p); }, whole);
  Step step = Step::invalid;
  if (valid && two_sided) {
    step = TwoSided(costs, p, kernels).solve();
  } else if (valid) {
    step = kernels.start(p);
  }
  stats.row_reads += p.rows;
  stats.bids += p.bids;
  stats.augmentations += p.augmentations;
  SmallAnswer answer{step, false, {}};
  if (step == Step::done) {
    std::copy_n(p.price, p.cols, matching.v.begin());
    answer.dwarfed = prices_dwarf_answer(p) && !exact_on_a_grid(costs, matching);
    if (answer.dwarfed && kernels.least_prices(p)) {
      std::copy_n(p.price, p.cols, matching.v.begin());
      answer.dwarfed = prices_dwarf_answer(p);
    }
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
