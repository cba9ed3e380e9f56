// The auction over sparse rows: free rows bid for columns, first come, first served.
//
//   D. P. Bertsekas, "The auction algorithm: a distributed relaxation method for the assignment
//   problem", Annals of Operations Research 14 (1988).
//   Without epsilon it is "augmenting row reduction" of Jonker and Volgenant, Computing 38 (1987).
//
// Every row must have an entry.  The queue tells which rows bid next, so that what they read is on
// its way from memory before it is their turn: on large problems waiting for memory is most of a
// bid.
#pragma once

#include <cstdint>
#include <vector>

#include "state.h"

namespace bmatch::sparse {

class Auction {
 public:
  // A row's only column falls by `scale`: any amount keeps its edge tight.
  Auction(State& state, double scale) : state_(state), scale_(scale), queue_(state.costs.rows) {}

  // Bids until no row is free (done) or the bids are spent.  Without epsilon, rows whose best
  // columns tie and are taken stay free.
  Step phase(double epsilon, std::int64_t bids);

  // Sets free the rows whose matched edge is more than epsilon above their best.
  Step free_unhappy(double epsilon);

 private:
  void fetch_ahead(Index head, Index length) const;
  Position free_tied(Index i, double best) const;

  State& state_;
  const double scale_;
  std::vector<Index> queue_;  // [rows], a ring: never more are free
};

}  // namespace bmatch::sparse
