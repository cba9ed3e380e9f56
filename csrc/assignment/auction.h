// The auction: free rows bid for columns over their candidate lists.
//
//   D. P. Bertsekas, "The auction algorithm: a distributed relaxation method for the assignment
//   problem", Annals of Operations Research 14 (1988); with epsilon scaling, forward only.
//   Row reduction (epsilon zero) is "augmenting row reduction" of Jonker and Volgenant,
//   Computing 38 (1987), section 3.
//
// Deviations: bids read lists, so that a bid costs some 20 columns and not all of them; between
// two values of epsilon only the rows that break the new epsilon-complementary slackness are
// set free; every phase has a budget and may give up with some rows free, because what follows
// (list_paths.h) is exact from any prices.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "candidates.h"
#include "context.h"

namespace bmatch {

class Auction {
 public:
  Auction(const Context& context, CandidateLists& lists)
      : costs_(context.costs),
        matching_(context.matching),
        lists_(lists),
        stats_(context.stats),
        interrupted_(context.interrupted) {}

  // Free rows take a free column that is tight.
  void claim_tight();

  // Bids without epsilon, twice over the free rows.  Every matched edge stays tight.
  Step row_reduction(std::int64_t bids);

  // Bids at epsilon until no row is free (done) or the bids are spent.
  Step phase(double epsilon, std::int64_t bids);

  // Sets free the rows whose matched edge is more than epsilon above their best.
  Step free_unhappy(double epsilon);

  // What a bid lowers a price by where a row has but one finite cost left.
  void set_scale(double scale) { scale_ = scale; }

  std::int64_t free_rows() const;

 private:
  template <typename F>
  ListBest best(Index i, std::int64_t more, F row_after);
  Index free_tied_column(Index i, double best) const;
  Index free_tied_beyond(Index i, double best);
  double drop(const ListBest& b) const { return b.second < kInfinity ? b.second - b.best : scale_; }

  const RowScanner& costs_;
  Matching& matching_;
  CandidateLists& lists_;
  Stats& stats_;
  const Interrupted& interrupted_;
  double scale_ = 0.0;               // a bid no more than makes the edge tight
  std::vector<std::uint8_t> free_;   // [padded cols / 8], one bit a column, once it is asked for
  std::vector<std::uint8_t> asked_;  // [rows], whose whole row was looked through
  std::unique_ptr<RowScanner::Scratch> scratch_;
};

}  // namespace bmatch
