#include "scaling.h"

#include <algorithm>
#include <utility>

#include "policy.h"

namespace bmatch {

EpsilonScaling::EpsilonScaling(const Context& context, CandidateLists& lists,
                               const CandidateLists::Gap& gap,
                               std::function<bool(std::int64_t)> leave)
    : rows_(context.costs.rows()),
      stats_(context.stats),
      rescans_before_(stats_.rescans),
      leave_(std::move(leave)),
      auction_(context, lists) {
  auction_.set_scale(gap.gap);
  // Where most rows have a clear best, they hardly fight over prices: one small epsilon does.
  const bool clear = gap.lead > kClearLead * gap.gap;
  epsilon_ = (clear ? kOnlyEpsilon : kFirstEpsilon) * gap.gap;
  last_ = clear ? epsilon_ : kLastOfFirst * epsilon_;
}

bool EpsilonScaling::is_possible(const CandidateLists::Gap& gap) {
  return gap.gap > kNoGap * gap.magnitude && gap.gap < kInfinity && gap.spread < kWideSpread &&
         !gap.lists_end;
}

Step EpsilonScaling::run() {
  Step step = up();
  if (step == Step::done) step = down();
  if (step == Step::done) step = finish();
  return step;
}

Step EpsilonScaling::up() {
  for (int growth = 0; growth < kMostGrowths; ++growth) {
    const Stats before = stats_;
    const Step step = auction_.phase(epsilon_, kUpBids * rows_);
    if (step == Step::interrupted) return step;
    if (step != Step::budget_spent) return Step::done;
    if (!is_above(auction_.free_rows(), rows_, kFewFree)) return Step::done;
    if (leaves(before)) return Step::budget_spent;
    epsilon_ *= kEpsilonGrowth;
  }
  return Step::done;
}

Step EpsilonScaling::down() {
  while (true) {
    Step step = Step::budget_spent;
    std::int64_t bids = kDownBids * rows_;
    for (bool renewed = true; step == Step::budget_spent && renewed;) {
      const Stats before = stats_;
      step = auction_.phase(epsilon_, kStepBids * rows_);
      if (step == Step::interrupted) return step;
      if (step == Step::budget_spent && leaves(before)) return step;
      bids -= kStepBids * rows_;
      const bool cheap =
          is_below(stats_.rescans - before.rescans, stats_.bids - before.bids, kCheapBids);
      renewed = bids > 0 || (cheap && stats_.bids <= kMostBids * rows_);
    }
    if (step != Step::done || epsilon_ <= last_) return Step::done;
    epsilon_ = std::max(epsilon_ / kEpsilonStep, last_);
    if (auction_.free_unhappy(epsilon_) == Step::interrupted) return Step::interrupted;
  }
}

Step EpsilonScaling::finish() {
  if (auction_.free_unhappy(0.0) == Step::interrupted) return Step::interrupted;
  auction_.claim_tight();
  const Step step = auction_.row_reduction(kFinishBids * rows_);
  return step == Step::interrupted ? step : Step::done;
}

// Most bids since then read a row again: lists do not hold what is wanted.
bool EpsilonScaling::leaves(const Stats& before) const {
  return is_above(stats_.rescans - before.rescans, stats_.bids - before.bids, kHopelessBids) &&
         leave_(stats_.rescans - rescans_before_);
}

}  // namespace bmatch
