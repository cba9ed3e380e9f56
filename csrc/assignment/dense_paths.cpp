#include "dense_paths.h"

#include <algorithm>
#include <utility>

#include "column_prices.h"
#include "policy.h"

namespace bmatch {

DensePaths::DensePaths(const Context& context)
    : costs_(context.costs),
      matching_(context.matching),
      stats_(context.stats),
      interrupted_(context.interrupted),
      price_(padded(costs_.cols()), -kInfinity),
      distance_(padded(costs_.cols()), kInfinity),
      predecessor_(padded(costs_.cols()), kNone),
      free_(free_columns(matching_)),
      minimum_(costs_.rows(), 0.0),
      scratch_(costs_.scratch()) {
  for (Index j = 0; j < costs_.cols(); ++j) {
    price_[j] = matching_.v[j];
  }
  for (Index i = 0; i < costs_.rows(); ++i) {
    if (matching_.col_of_row[i] == kNone) free_rows_.push_back(i);
  }
  state_.price = price_.data();
  state_.distance = distance_.data();
  state_.predecessor = predecessor_.data();
  state_.free = free_.data();
}

bool DensePaths::take_turn() {
  ++stats_.row_reads;
  return ++turns_ % kReadsATurn == 0 && interrupted_();
}

void DensePaths::match(Index i, Index j) {
  matching_.match(i, j);
  take_column(free_, j);
}

void DensePaths::publish_prices() {
  std::copy_n(price_.begin(), costs_.cols(), matching_.v.begin());
}

Step DensePaths::claim_minima() { return claim_free(true); }

Step DensePaths::claim_waiting() {
  const std::vector<Index> others = std::exchange(free_rows_, std::exchange(waiting_, {}));
  const Step step = claim_free(false);
  free_rows_.insert(free_rows_.begin(), others.begin(), others.end());
  return step;
}

Step DensePaths::claim_free(bool may_wait) {
  std::vector<Index> rows = std::exchange(free_rows_, {});
  for (std::size_t k = 0; k < rows.size(); ++k) {
    const Index i = rows[k];
    if (take_turn()) return Step::interrupted;
    const Claim claim = costs_.claim(i, price_.data(), free_.data(), scratch_);
    if (!claim.valid) return Step::invalid;
    minimum_[i] = claim.best;
    if (may_wait && claim.best < kInfinity && costs_.is_plateau(i, claim.best, scratch_)) {
      waiting_.push_back(i);
      if (k + 1 == kFirstRows &&
          is_above(static_cast<std::int64_t>(waiting_.size()), kFirstRows, kNearlyAll)) {
        may_wait = false;  // where all wait, none need; others may take any column, and come later
        rows.insert(rows.begin() + kFirstRows, waiting_.begin(), waiting_.end());
        waiting_.clear();
      }
    } else if (claim.free_col != kNone) {
      match(i, claim.free_col);
    } else {
      free_rows_.push_back(i);
    }
  }
  return Step::done;
}

Step DensePaths::reduce_columns() {
  if (free_rows_.empty()) return Step::done;
  // distance_ serves as min_i (c_ij - u_i) and is infinite again afterwards.
  for (Index i = 0; i < costs_.rows(); ++i) {
    if (take_turn()) return Step::interrupted;
    const double u = minimum_[i];
    if (u == kInfinity) continue;  // the row has no finite cost: the paths will say so
    costs_.lower(i, u, distance_.data(), scratch_);
  }
  const bool valid = std::find(distance_.begin(), distance_.end(), -kInfinity) == distance_.end();
  if (costs_.rows() == costs_.cols()) {
    for (Index j = 0; j < costs_.cols(); ++j) {
      if (matching_.row_of_col[j] == kNone && distance_[j] < kInfinity) price_[j] = distance_[j];
    }
    publish_prices();
  } else {
    set_column_prices(matching_, distance_);
    std::copy_n(matching_.v.begin(), costs_.cols(), price_.begin());
  }
  std::fill(distance_.begin(), distance_.end(), kInfinity);
  return valid ? claim_free(false) : Step::invalid;
}

Step DensePaths::start(bool claims) {
  const Step step = claims ? claim_minima() : Step::done;
  const auto free = static_cast<std::int64_t>(free_rows());
  if (step != Step::done || !is_above(free, costs_.rows(), kFewFreeOfStart)) return step;
  return reduce_columns();
}

Step DensePaths::reduce_rows(std::int64_t bids) {
  auto before = static_cast<std::int64_t>(free_rows_.size());
  for (int round = 0; round < kReductionRounds && !free_rows_.empty(); ++round) {
    std::vector<Index> later;
    std::vector<Index> stack(free_rows_.rbegin(), free_rows_.rend());
    while (!stack.empty()) {
      const Index i = stack.back();
      stack.pop_back();
      if (bids == 0) {  // more, as long as they leave fewer rows free
        const auto left = static_cast<std::int64_t>(later.size() + stack.size() + 1);
        if (is_below(left, before, kStillFalling)) bids = before = left;
      }
      if (bids-- <= 0) {
        later.push_back(i);
        continue;
      }
      if (take_turn()) return Step::interrupted;
      ++stats_.bids;
      const BestTwo b = costs_.best_two(i, price_.data(), free_.data(), scratch_);
      if (b.best_free == b.best) {
        if (b.best < kInfinity)
          match(i, b.free_col);
        else
          later.push_back(i);
        continue;
      }
      // A row with a single finite cost bids no more than what makes it tight.
      const double second = b.second < kInfinity ? b.second : b.best;
      const double price = price_[b.col] - (second - b.best);
      const Index displaced = matching_.row_of_col[b.col];
      const bool fell = price < price_[b.col];
      if (!fell && displaced != kNone) {
        later.push_back(i);
        continue;
      }
      price_[b.col] = price;
      match(i, b.col);
      if (displaced != kNone) stack.push_back(displaced);
    }
    std::sort(later.begin(), later.end());
    free_rows_ = std::move(later);
  }
  publish_prices();
  return Step::done;
}

Step DensePaths::augment_all(std::int64_t sweeps, bool hurries) {
  std::int64_t left = sweeps;
  Step step = augment_free(left, sweeps, hurries);
  if (step == Step::done && !waiting_.empty()) {
    step = claim_waiting();
    if (step == Step::done) step = augment_free(left, left, hurries);
  }
  publish_prices();
  return step;
}

Step DensePaths::augment_free(std::int64_t& left, std::int64_t given, bool hurries) {
  const double each = static_cast<double>(given) / static_cast<double>(free_rows_.size());
  const std::int64_t before = left;
  Step step = Step::done;
  std::size_t done = 0;
  while (done < free_rows_.size()) {
    step = augment(free_rows_[done], left);
    if (step != Step::done) break;
    ++done;
    const std::int64_t taken = before - left;
    if (hurries && done < free_rows_.size() && taken > given / kEarliest &&
        static_cast<double>(taken) > each * static_cast<double>(done)) {
      step = Step::budget_spent;
      break;
    }
  }
  free_rows_.erase(free_rows_.begin(), free_rows_.begin() + static_cast<std::ptrdiff_t>(done));
  return step;
}

std::vector<double> DensePaths::row_duals() {
  std::vector<double> duals(padded(costs_.rows()), 0.0);
  for (Index i = 0; i < costs_.rows(); ++i) {
    const Index j = matching_.col_of_row[i];
    if (j != kNone) {
      duals[i] = costs_.cost(i, j) - price_[j];
    } else {
      take_turn();
      duals[i] = costs_.claim(i, price_.data(), free_.data(), scratch_).best;
    }
  }
  return duals;
}

Step DensePaths::augment(Index free_row, std::int64_t& sweeps) {
  start_ = free_row;
  settled_.clear();
  state_.free_distance = kInfinity;
  state_.free_col = kNone;
  Step step = Step::done;
  Index row = free_row;
  double base = 0.0;
  while (true) {
    if (sweeps-- <= 0) {
      step = Step::budget_spent;
      break;
    }
    if (take_turn()) {
      step = Step::interrupted;
      break;
    }
    costs_.relax(row, base, state_, scratch_);
    if (state_.free_distance <= state_.open_distance) break;
    const Index j = state_.open_col;
    const double d = state_.open_distance;
    settled_.push_back({j, price_[j], d});
    row = matching_.row_of_col[j];
    base = d - (costs_.cost(row, j) - price_[j]);
    price_[j] = -kInfinity;
    distance_[j] = kInfinity;
  }
  if (step == Step::done && state_.free_col == kNone) step = Step::infeasible;

  const double length = state_.free_distance;
  for (const Settled& s : settled_) {  // rounding can make the path end before what it passed
    const double fall = step == Step::done ? std::min(s.distance - length, 0.0) : 0.0;
    price_[s.col] = s.price + fall;
  }
  std::fill(distance_.begin(), distance_.end(), kInfinity);
  if (step != Step::done) return step;

  // Flip the path, from its end back to the row it started at.
  take_column(free_, state_.free_col);
  for (Index j = state_.free_col, i = kNone; i != free_row;) {
    i = predecessor_[j];
    matching_.row_of_col[j] = i;
    std::swap(matching_.col_of_row[i], j);
  }
  ++stats_.augmentations;
  return step;
}

std::vector<Index> DensePaths::trapped() const {
  std::vector<Index> rows{start_};
  for (const Settled& s : settled_) rows.push_back(matching_.row_of_col[s.col]);
  std::sort(rows.begin(), rows.end());
  return rows;
}

}  // namespace bmatch
