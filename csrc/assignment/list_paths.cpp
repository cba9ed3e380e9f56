#include "list_paths.h"

#include <algorithm>

#include "policy.h"

namespace bmatch {
namespace {

Index taken(std::vector<Index>& stack) {
  const Index last = stack.back();
  stack.pop_back();
  return last;
}

}  // namespace

ListPaths::ListPaths(const Context& context, CandidateLists& lists, bool below_plateaus)
    : costs_(context.costs),
      matching_(context.matching),
      lists_(lists),
      below_plateaus_(below_plateaus),
      stats_(context.stats),
      interrupted_(context.interrupted),
      kernels_(row_kernels()),
      distance_(context.costs.cols(), kInfinity),
      predecessor_(context.costs.cols()),
      is_settled_(context.costs.cols(), 0),
      base_(context.costs.rows()),
      is_fresh_(context.costs.rows(), 0) {}

void ListPaths::push(double distance, Index id) {
  heap_.push_back({distance, id});
  std::push_heap(heap_.begin(), heap_.end());
}

// Distances through row i, and the key at which it has more to offer.
void ListPaths::offer(Index i, double base) {
  const CandidateLists::List list = lists_.of(i);
  const double* v = matching_.v.data();
  constexpr int kBits = 32;
  for (int from = 0; from < list.size; from += kBits) {
    const int size = std::min(list.size - from, kBits);
    for (std::uint32_t hits = kernels_.nearer(list.cost + from, list.col + from, size, base, v,
                                              distance_.data(), best_);
         hits != 0; hits &= hits - 1) {
      const int k = from + __builtin_ctz(hits);
      const Index j = list.col[k];
      const double through = base + (list.cost[k] - v[j]);
      if (!(through < best_) || is_settled_[j]) continue;
      if (matching_.row_of_col[j] == kNone) {
        best_ = through;
        best_col_ = j;
        predecessor_[j] = i;
        continue;
      }
      if (distance_[j] == kInfinity) reached_.push_back(j);
      distance_[j] = through;
      predecessor_[j] = i;
      if (through <= at_)
        level_.push_back(j);
      else
        push(through, j);
    }
  }
  const double more = base + list.bound;
  if (!(more < best_)) return;
  if (more <= at_)
    bounds_.push_back(i);
  else
    push(more, ~i);
}

// The nearest free column through row i, which is read for it.
void ListPaths::offer_free(Index i, double base) {
  if (scratch_ == nullptr) {
    scratch_ = std::make_unique<RowScanner::Scratch>(costs_.scratch());
    free_ = free_columns(matching_);
  }
  ++stats_.row_reads;
  const BestTwo b = costs_.best_two(i, matching_.v.data(), free_.data(), *scratch_);
  if (!(base + b.best_free < best_)) return;
  best_ = base + b.best_free;
  best_col_ = b.free_col;
  predecessor_[best_col_] = i;
}

// More of row i; returns how many reads of a row that counts for.
std::int64_t ListPaths::grow(Index i) {
  if (below_plateaus_ && lists_.list_below_plateau(i)) return 0;  // once a row
  const double bound = lists_.of(i).bound;
  if (!is_fresh_[i]) {
    is_fresh_[i] = 1;
    fresh_.push_back(i);
    lists_.rescan(i);
  }
  if (lists_.of(i).bound <= bound) lists_.lengthen(i);
  return kGrowthReads;
}

void ListPaths::settle(Index j) {
  if (is_settled_[j]) return;  // reached more cheaply before
  is_settled_[j] = 1;
  settled_.push_back(j);
  const Index i = matching_.row_of_col[j];
  rows_.push_back(i);
  base_[i] = distance_[j] - (lists_.cost(i, j) - matching_.v[j]);
  offer(i, base_[i]);
}

// To the next distance at which there is something.
void ListPaths::advance() {
  at_ = heap_.front().distance;
  while (!heap_.empty() && heap_.front().distance <= at_) {
    const Index id = heap_.front().id;
    std::pop_heap(heap_.begin(), heap_.end());
    heap_.pop_back();
    if (id < 0)
      bounds_.push_back(~id);
    else
      level_.push_back(id);
  }
}

// Reads a row whose bound is here for a free column, unless its list tells of all that is nearer.
void ListPaths::ask(Index i, Budget& budget) {
  ended_.push_back(i);
  if (is_fresh_[i]) return;
  --budget.reads;
  offer_free(i, base_[i]);
  misses_ = best_ > at_ ? misses_ + 1 : 0;
}

Step ListPaths::augment(Index free_row, Budget& budget) {
  Step step = Step::done;
  heap_.clear();
  level_.clear();
  bounds_.clear();
  ended_.clear();
  settled_.clear();
  reached_.clear();
  rows_.assign(1, free_row);
  best_ = kInfinity;
  best_col_ = kNone;
  at_ = -kInfinity;
  base_[free_row] = 0.0;
  offer(free_row, 0.0);

  while (best_ > at_) {
    if (++turns_ % kPopsATurn == 0 && interrupted_()) {
      step = Step::interrupted;
      break;
    }
    if (budget.pops < 0 || budget.reads < 0) {
      step = Step::budget_spent;
      break;
    }
    --budget.pops;
    if (!bounds_.empty() && misses_ < kMisses) {
      ask(taken(bounds_), budget);
    } else if (!level_.empty()) {
      settle(taken(level_));
    } else if (!ended_.empty()) {
      const Index i = taken(ended_);
      budget.reads -= grow(i);
      offer(i, base_[i]);
    } else if (!bounds_.empty()) {
      ask(taken(bounds_), budget);
    } else if (!heap_.empty() && heap_.front().distance < best_) {
      advance();
    } else {
      break;
    }
  }
  for (const Index i : fresh_) is_fresh_[i] = 0;
  fresh_.clear();
  if (step == Step::done && best_col_ == kNone) step = Step::infeasible;

  if (step == Step::done) {
    for (const Index j : settled_) {
      if (distance_[j] < best_) lists_.lower_price(j, matching_.v[j] + (distance_[j] - best_));
    }
    if (!free_.empty()) take_column(free_, best_col_);
    // Flip the path, from its end back to the row it started at.
    for (Index j = best_col_, i = kNone; i != free_row;) {
      i = predecessor_[j];
      matching_.row_of_col[j] = i;
      std::swap(matching_.col_of_row[i], j);
    }
    ++stats_.augmentations;
  }
  for (const Index j : reached_) distance_[j] = kInfinity;
  for (const Index j : settled_) is_settled_[j] = 0;
  return step;
}

std::vector<Index> ListPaths::trapped() const {
  std::vector<Index> rows = rows_;
  std::sort(rows.begin(), rows.end());
  return rows;
}

}  // namespace bmatch
