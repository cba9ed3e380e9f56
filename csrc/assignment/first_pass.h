// The start: what one read of the matrix leaves to the stages after it.
#pragma once

#include <cstdint>
#include <memory>

#include "candidates.h"
#include "context.h"

namespace bmatch {

// One read of the matrix from price zero: minima alone as long as hardly any two rows want the same
// column, lists from there on.  On well separated matrices the minima are the answer.  Free columns
// go to the first rows that want them.  Its steps end with done, invalid or interrupted.
class FirstRead {
 public:
  FirstRead(const Context& context, ThreadTeam& team);

  // Minima of the first rows.
  Step begin();
  // Whether most of these want the same few columns.
  bool rows_agree() const;
  // All others.
  Step finish();
  // Whether rows that got no column want the same few next.
  bool others_agree() const;

  ReusedVector<RowMinima> minima;         // [rows], if every row got its best column
  std::unique_ptr<CandidateLists> lists;  // otherwise

 private:
  Step read_on();
  bool is_separated() const;

  const Context& context_;
  ThreadTeam& team_;
  Index end_ = 0;  // of the rows read so far
  Index collisions_ = 0;
};

// Lists at present prices for all rows from `first` on; done, invalid or interrupted.
Step list_rows(const Context& context, CandidateLists& lists, ThreadTeam& team, Index first);

// Whether so many rows are free that column_start() is worth its reads; or at least half are, of
// which the columns' least costs would leave less than half, as far as lists go.
bool wants_column_start(const Context& context, const CandidateLists& lists, std::int64_t free);

// An empty matching at the prices v_j = min_i (c_ij - u_i), u_i the best of the lists, or 0 for all
// rows where the sum of these duals is greater (costs of columns, of which rows may have a few
// only); and lists made anew.  Done, invalid or interrupted.
Step column_start(const Context& context, CandidateLists& lists, ThreadTeam& team);

}  // namespace bmatch
