// Bids for columns in parallel: an auction where epsilon > 0, row reduction where it is 0.
//
// All free rows bid at once, a warp each, round by round, and the column goes to the lowest price
// (a bid lowers it).  Outcomes depend on sets of bids alone, not on their order.
//
// A word holds a column's price and, in its last bits, who has it: the smaller word wins, which is
// the lower price, then the lower row.  Prices are rounded up to what a word holds, so that
// the bidder's margin stays and a matched row is exactly tight where epsilon is 0.
//
// Two arrays of words take turns, so that one barrier a round is enough: everybody reads the one
// that the last round completed and bids into the other, where the bidders of the last round write
// its outcome, too.
#pragma once

#include "row_lists.h"
#include "team.h"

namespace bmatch::cuda {

// Prices fall in steps of 2^-36 of themselves where there are fewer than 65,535 rows.
struct WordFormat {
  Word rows;  // mask of the row; all ones: nobody

  __device__ explicit WordFormat(int n)
      : rows(n < 0xffff    ? 0xffff
             : n < 0xfffff ? 0xfffff
                           : 0xffffff) {}
  __device__ double price(Word word) const { return number_of(word & ~rows); }
  __device__ int row(Word word) const {
    return (word & rows) == rows ? kNobody : static_cast<int>(word & rows);
  }
  __device__ Word pack(double price, int row) const {  // the price rounded up
    return ((key_of(price) + rows) & ~rows) | (row == kNobody ? rows : static_cast<Word>(row));
  }
  __device__ double rounded_down(double price) const { return number_of(key_of(price) & ~rows); }
};

struct WordPrices {
  static constexpr bool kNone = false;
  const Word* words;
  WordFormat format;
  __device__ void pair_too(int j, double (&out)[2]) const {
    Word pair[2];
    peek_pair_too(words + j, pair);
    out[0] = format.price(pair[0]);
    out[1] = format.price(pair[1]);
  }
};

struct BiddingRules {
  double epsilon;
  bool spare_columns;  // more columns than rows: a column nobody has must keep its price
  int stop_at;         // so many rows without a column are left to what follows
  int max_rounds;
};

// The word with which a row bids and for which column; kNobody if it had better wait for the
// forest.
struct Bid {
  Word word;
  int col;
};

// `own`: the word of the lane's entry.
__device__ inline Bid choose_bid(const Look& l, const Entry& e, Word own, int row,
                                 WordFormat format, const BiddingRules& rules) {
  if (l.col == kNobody) return {0, kNobody};  // nothing finite
  const double second = l.second < infinity() ? l.second : l.best;
  const bool attains = l.value == l.best;
  int lane = __ffs(__ballot_sync(kAllLanes, attains && e.col == l.col)) - 1;
  Word word = __shfl_sync(kAllLanes, own, lane);
  if (second == l.best && format.row(word) != kNobody) {
    // Among equals one that nobody has; rows start at different places.
    const unsigned free = __ballot_sync(kAllLanes, attains && format.row(own) == kNobody);
    if (free != 0) {
      const int turn = 13 * row % kWarp;
      const unsigned turned = turn == 0 ? free : free << turn | free >> (kWarp - turn);
      lane = (__ffs(turned) - 1 - turn + kWarp) % kWarp;
      word = __shfl_sync(kAllLanes, own, lane);
    }
  }
  const int col = __shfl_sync(kAllLanes, e.col, lane);
  const bool unowned = format.row(word) == kNobody;
  const double price = format.price(word);
  if (!(unowned && rules.spare_columns)) {
    const Word lower = format.pack(price - (second - l.best) - rules.epsilon, row);
    if (format.price(lower) < price) return {lower, col};
  }
  return unowned ? Bid{format.pack(price, row), col} : Bid{0, kNobody};
}

// A row that bids, what it bid for in the last round, if for anything, and its list.
struct Bidder {
  int row, col;
  Entry list;
};
template <typename T>
__device__ Bidder bidder_of(const Problem<T>& p, const State& s, const int* slot_row, int slot) {
  const int row = peek(slot_row + slot), col = peek_too(s.slot_bid + slot);
  if (row == kNobody) return {kNobody, kNobody, {}};
  return {row, col, entry(p, s, row)};
}

// What became of the bid: replays it into the other words; then the row is the one that the slot
// carries on: the bidder if it lost, the row it displaced, or kNobody.
template <typename T>
__device__ void settle(const Problem<T>& p, const State& s, Bidder& b, const Word* words,
                       Word* other, WordFormat format) {
  const int col = b.col;
  if (col == kNobody) return;
  // In the trip of the list, which is of use if the bid lost.
  const Word word = peek_too(words + col);
  const int holder = peek_too(s.row_of_col + col);
  if (lane_id() == 0) atomicMin(other + col, word);
  if (format.row(word) != b.row) return;
  __syncwarp();
  if (lane_id() == 0) {
    put(s.row_of_col + col, b.row);  // losers of the column look at it, in vain
    s.col_of_row[b.row] = col;
    if (holder != kNobody) s.col_of_row[holder] = kNobody;
  }
  b.row = holder;
  if (holder != kNobody) b.list = entry(p, s, holder);
}

// Free rows bid until at most rules.stop_at are left, nobody can, or the rounds are spent.  Prices
// in s.v must be ones that a word holds.
template <typename T, bool kWide>
__device__ void bidding(const Problem<T>& p, const State& s, Team<kWide>& team,
                        const BiddingRules& rules) {
  Control& control = *s.control;
  const WordFormat format(p.rows);
  const int rank = team.thread(), size = team.threads();
  if (rank == 0) {
    for (int k = 0; k < 3; ++k) control.alive[k] = control.waiting[k] = 0;
    control.slots[0] = control.slots[1] = 0;
  }
  team.sync();
  for (int i = rank; i < p.rows; i += size) {
    if (peek(s.col_of_row + i) != kNobody) continue;
    const int slot = atomicAdd(&control.slots[0], 1);
    s.slot_row[0][slot] = i;
    s.slot_bid[slot] = kNobody;
  }
  for (int j = rank; j < p.cols; j += size) {
    s.words[0][j] = s.words[1][j] = format.pack(peek(s.v + j), peek(s.row_of_col + j));
  }
  team.sync();
  int slots = peek(&control.slots[0]), alive = slots, round = 0;
  int* slot_row = s.slot_row[0];
  bool may_read = false;  // rows whose lists no longer tell the best
  for (; alive > rules.stop_at && round < rules.max_rounds; ++round) {
    const Word* const words = s.words[round % 2];
    Word* const other = s.words[(round + 1) % 2];
    const WordPrices prices{words, format};
    int carried = 0, waiting = 0;
    for (int slot = team.warp(); slot < slots; slot += team.warps()) {
      Bidder b = bidder_of(p, s, slot_row, slot);
      if (b.row == kNobody) continue;
      settle(p, s, b, words, other, format);
      Bid bid{0, kNobody};
      while (b.row != kNobody) {
        const Word word = peek(words + b.list.col);
        const Look l = look(b.list, format.price(word));
        if (l.current()) {
          bid = choose_bid(l, b.list, word, b.row, format, rules);
          if (bid.col == kNobody) b.row = kNobody;
          break;
        }
        if (!may_read) {
          ++waiting;
          break;
        }
        read_again(p, s, b.row, prices);
        b.list = entry(p, s, b.row);
      }
      carried += b.row != kNobody;
      __syncwarp();
      if (lane_id() == 0) {
        if (bid.col != kNobody) atomicMin(other + bid.col, bid.word);
        slot_row[slot] = b.row;
        s.slot_bid[slot] = bid.col;
      }
    }
    if (lane_id() == 0 && carried > 0) {
      atomicAdd(&control.alive[round % 3], carried);
      if (waiting > 0) atomicAdd(&control.waiting[round % 3], waiting);
    }
    if (rank == 0) control.alive[(round + 1) % 3] = control.waiting[(round + 1) % 3] = 0;
    team.sync();
    alive = peek(&control.alive[round % 3]);
    may_read = 2 * peek_too(&control.waiting[round % 3]) >= alive;
    if (alive < slots / 2 && alive > rules.stop_at) {  // close ranks
      const int turn = slot_row == s.slot_row[0] ? 0 : 1;
      int* const closed = s.slot_row[1 - turn];
      // Bids move with their rows: settled first, into the words of the next round.
      const Word* const done = s.words[(round + 1) % 2];
      Word* const next = s.words[round % 2];
      for (int slot = team.warp(); slot < slots; slot += team.warps()) {
        Bidder b = bidder_of(p, s, slot_row, slot);
        if (b.row != kNobody) settle(p, s, b, done, next, format);
        if (b.row != kNobody && lane_id() == 0) {
          closed[atomicAdd(&control.slots[1 - turn], 1)] = b.row;
        }
      }
      team.sync();
      slots = alive = peek(&control.slots[1 - turn]);
      slot_row = closed;
      for (int slot = rank; slot < slots; slot += size) s.slot_bid[slot] = kNobody;
      if (rank == 0) control.slots[turn] = 0;
      team.sync();
    }
  }
  const Word* const words = s.words[round % 2];
  Word* const other = s.words[(round + 1) % 2];
  for (int slot = team.warp(); slot < slots; slot += team.warps()) {
    Bidder b = bidder_of(p, s, slot_row, slot);
    if (b.row != kNobody) settle(p, s, b, words, other, format);
  }
  for (int j = rank; j < p.cols; j += size) s.v[j] = format.price(peek(words + j));
  if (rank == 0) control.report.bidding_rounds += round;
}

}  // namespace bmatch::cuda
