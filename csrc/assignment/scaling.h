// Epsilon scaling: auctions one after the other, for matrices on which many rows are free.
//
// Epsilon grows until an auction leaves few rows free, and falls from there, a tenth at a time, as
// long as auctions come to their end; what each leaves is the start of the next.  Then prices are
// right to the last epsilon, and rows whose edges are not tight are set free for what follows.
// Epsilons are measured by the typical gap between a row's best column and the bound of its list.
#pragma once

#include <functional>

#include "auction.h"
#include "candidates.h"
#include "context.h"

namespace bmatch {

class EpsilonScaling {
 public:
  // `leave` is asked when most bids read a row again, with how many did so far, and says whether
  // this is the end of it; if not, matching and prices are as they were.
  EpsilonScaling(const Context& context, CandidateLists& lists, const CandidateLists::Gap& gap,
                 std::function<bool(std::int64_t)> leave);

  // Whether bids at such a gap would get anywhere.
  static bool is_possible(const CandidateLists::Gap& gap);

  // Done: every matched edge is tight.  Budget spent: it was left.  Or interrupted.
  Step run();

 private:
  Step up();
  Step down();
  Step finish();
  bool leaves(const Stats& before) const;

  const std::int64_t rows_;
  const Stats& stats_;
  const std::int64_t rescans_before_;
  const std::function<bool(std::int64_t)> leave_;
  Auction auction_;
  double epsilon_, last_;
};

}  // namespace bmatch
