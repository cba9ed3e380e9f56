// Shortest augmenting paths from many free rows at once: one search grows a tree from each of them,
// and since trees have nothing in common, every tree that holds a free column gives a path.
//
//   R. Jonker, A. Volgenant, "A shortest augmenting path algorithm for dense and sparse linear
//   assignment problems", Computing 38 (1987), section 4, is the case of one row.
//   H. N. Gabow, R. E. Tarjan, "Faster scaling algorithms for network problems", SIAM Journal on
//   Computing 18 (1989), search from all free rows at once.
//
// The search is Dijkstra's, on reduced costs c_ij - v_j - u_i with u_i = min_j (c_ij - v_j), and
// matched edges of length zero; so where these are tight to within epsilon only, they stay so.
// It ends when as many trees as wanted hold a free column, at distance D; then v_j += d_j - D for
// every column that is nearer.  Columns that were free and stay so fall like others, which is
// right for square matrices; for others one row is taken at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "state.h"

namespace bmatch::sparse {

class Forest {
 public:
  explicit Forest(State& state);

  // Matches some of these free rows, at least one, unless they are infeasible: none can be.
  Step augment(const std::vector<Index>& free_rows, std::int64_t wanted);

  // After Step::infeasible: rows that reach fewer columns than they are many, ascending.
  std::vector<Index> trapped() const;

 private:
  struct Key {
    double distance;
    Index col;
    friend bool operator<(const Key& a, const Key& b) { return a.distance > b.distance; }
  };
  void offer(Index i, double distance, Index root);
  void settle(Index j);
  Step grow(std::int64_t wanted);
  void flip(Index root);

  State& state_;
  std::vector<double> distance_;          // [cols], infinite between searches
  std::vector<Position> arrival_;         // [cols], the entry by which a column was reached,
  std::vector<Index> predecessor_;        // [cols], of this row
  std::vector<Index> root_;               // [cols], the free row whose tree it is in
  std::vector<std::uint8_t> is_settled_;  // [cols]
  std::vector<Index> goal_;               // [rows], of a free row: the free column its tree holds
  std::vector<Index> reached_, settled_, roots_;
  std::vector<Index> level_, put_off_;  // columns at the distance of the search
  std::vector<Key> heap_;
  double at_ = 0.0;     // the distance of the search
  double limit_ = 0.0;  // nothing at or beyond it is wanted
  std::int64_t found_ = 0;
};

}  // namespace bmatch::sparse
