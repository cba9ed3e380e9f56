// The exact finish: shortest augmenting paths from all free rows at once.
//
// Every free row is the root of a tree, and trees grow to a length D.  That may be any length where
// all columns may lose price: that of the farthest free column, or less where many are near.  With
// spare columns, whose price is zero in every optimum, it is that of the nearest.  Labels d_j, the
// length of a shortest path from any root to column j over reduced costs, are corrected in rounds
// until nothing below D changes.  Then v_j += d_j - D where d_j < D, which makes the trees' edges
// tight, and each tree that holds a free column gives its root one, along paths that share nothing.
// Prices only fall, so lists stay true.
//
// A list holds a row's columns up to its bound, so labels are final below the fence, the least of
// label + (bound - u) over the rows of the trees.  Where D lies beyond, the rows whose fences do
// not are relaxed whole.
//
// As in bidding.h two arrays of labels take turns: a round reads those that the last one completed
// and lowers the others, so one barrier a round is enough, and outcomes depend on sets alone.  Who
// labelled a column is recorded a round later, when its label is known: among all who did, the
// least by hash and row.  Ties are many in some matrices, and the hash spreads the trees.
//
// Some matrices want a phase for every row, or thousands of rounds a phase, and the host is sooner
// there.  Work is counted in rounds, some 4 us on an H100: a round of bids is half of one, a phase
// ten, a row read whole or again a tenth.  The search gives up when it has come to more than it
// may.
//
// Most rounds are short of work and long of waiting, so warps relax from the first on and record
// from the last on, and what is read together is asked for together.
#pragma once

#include <climits>

#include "row_lists.h"
#include "team.h"
#include "whole_rows.h"

namespace bmatch::cuda {

template <typename T, bool kWide>
class Forest {
 public:
  // most_work: 0 for no limit.
  __device__ Forest(const Problem<T>& p, const State& s, Team<kWide>& team, bool spare_columns,
                    int most_work)
      : p_(p),
        s_(s),
        team_(team),
        control_(*s.control),
        spare_(spare_columns),
        most_work_(most_work),
        rank_(team.thread()),
        size_(team.threads()) {}

  // Gives every row a column.  Returns the outcome; if that is kInfeasible, entered[i] == phase()
  // marks rows that compete for fewer columns.
  __device__ int grow() {
    for (int i = rank_; i < p_.rows; i += size_) {
      s_.entered[i] = 0;
      s_.relaxed[0][i] = s_.relaxed[1][i] = -1;
      s_.u[i] = 0.0;  // read before it is known whether it is of use
    }
    for (int j = rank_; j < p_.cols; j += size_) s_.stamp[0][j] = s_.stamp[1][j] = -1;
    bool alone = false;
    for (;;) {
      ++phase_;
      plant(alone);
      if (sources_ == 0) return kOptimal;
      const Word length = label();
      if (rank_ == 0) {
        control_.report.forest_phases += 1;
        control_.report.forest_rounds += round_ - first_round_;
      }
      if (is_spent()) return kCostly;
      ++round_;  // no two phases share a number, so stamps of one say nothing in the next
      if (length == kUnreached) {
        if (alone || sources_ == 1) return kInfeasible;
        alone = true;  // one root whose tree is closed is the shortest proof
        team_.sync();
        continue;
      }
      alone = false;
      augment(length);
      if (peek(&control_.broken) != 0) return kBroken;
    }
  }
  __device__ int phase() const { return phase_; }

 private:
  // Collects the roots and the free columns and clears the labels.
  __device__ void plant(bool alone) {
    if (rank_ == 0) {
      control_.sources = control_.free_cols = control_.tree = 0;
      control_.lowest_source = INT_MAX;
      control_.nearest = kUnreached;
      control_.reach[0] = control_.reach[1] = kUnreached;
      for (int& count : control_.queued) count = 0;
      for (int k = 0; k < 3; ++k) {
        control_.fence_low[k] = kUnreached;
        control_.fence_high[k] = 0;
      }
    }
    team_.sync();
    const Report& report = control_.report;  // nobody adds to it before the trees grow
    const int read = peek(&report.rescans) + peek_too(&report.whole_rows);
    spent_ = peek_too(&report.bidding_rounds) / 2 + 10 * phase_ + read / 10;
    for (int i = rank_; i < p_.rows; i += size_) {
      if (peek(s_.col_of_row + i) == kNobody) {
        atomicMin(&control_.lowest_source, i);
        if (!alone) s_.sources[atomicAdd(&control_.sources, 1)] = i;
        s_.choice[i] = INT_MAX;
      }
    }
    for (int j = rank_; j < p_.cols; j += size_) {
      s_.words[0][j] = s_.words[1][j] = s_.pred[j] = kUnreached;
      if (peek(s_.row_of_col + j) == kNobody) s_.free_cols[atomicAdd(&control_.free_cols, 1)] = j;
    }
    team_.sync();
    if (alone) {
      if (rank_ == 0) {
        s_.sources[0] = control_.lowest_source;
        control_.sources = 1;
      }
      team_.sync();
    }
    sources_ = peek(&control_.sources);
    free_cols_ = peek_too(&control_.free_cols);
    first_round_ = round_;
    whole_rows_ = 0;
  }

  // Whether the search has come to more work than it may: all threads know.
  __device__ bool is_spent() const { return most_work_ > 0 && spent_ + round_ > most_work_; }

  // Labels columns until D is known, and returns its key; kUnreached if no free column can be, or
  // the work is spent.
  __device__ Word label() {
    bool whole = false;             // rows with fences up to theta_ are relaxed whole this time
    bool recent = false;            // they were in the last round
    int fell = 0, fell_before = 0;  // columns whose labels did in the last two rounds
    int stops = 0;                  // rounds in which nothing fell
    for (;; ++round_) {
      known_ = s_.words[round_ % 2];
      lowered_ = s_.words[(round_ + 1) % 2];
      // `nearest` may fall meanwhile: one lane reads it for all, so that they stay together.
      const Word reach = __shfl_sync(
          kAllLanes, peek_too(spare_ ? &control_.nearest : &control_.reach[round_ % 2]), 0);
      if (round_ == first_round_) {
        for (int k = team_.warp(); k < sources_; k += team_.warps()) {
          const int i = peek(s_.sources + k);
          new_trip(s_.u);
          relax_list(i, list_too(i), 0.0, kUnreached);
        }
      } else {
        relax_queue(fell, reach);
        if (fell > 0) record(fell_before);
        if (whole || recent) {
          through_whole_rows(p_, s_, {whole_rows_, theta_, known_, recent, reach, lowering()},
                             team_.warp(), team_.warps());
        }
        if (whole && rank_ == 0) {  // for the stop after the next
          control_.fence_low[(stops + 1) % 3] = kUnreached;
          control_.fence_high[(stops + 1) % 3] = 0;
        }
      }
      if (rank_ == 0) control_.queued[(round_ + 2) % kQueues] = 0;
      if (!spare_ && team_.warp() == team_.warps() / 2) publish_reach();
      team_.sync();
      if (is_spent()) return kUnreached;
      fell_before = fell;
      fell = peek(&control_.queued[(round_ + 1) % kQueues]);
      recent = whole && fell > 0;
      whole = false;
      if (fell > 0) continue;
      // Nothing below the fence can change any more.
      ++stops;
      const Word nearest = spare_ ? peek(&control_.nearest) : kUnreached;  // before others go on
      const auto [low, high] = fences(stops % 3);
      const auto [wanted, within, longest_within] =
          spare_ ? Lengths{nearest, 0, kUnreached} : lengths(low);
      if (wanted <= low && wanted != kUnreached) return wanted;
      if (low == kUnreached || (within > 0 && 2 * within >= sources_)) return longest_within;
      theta_ = wanted != kUnreached ? wanted : high;
      whole = true;
    }
  }

  __device__ double label_of(int col, const Word* labels) const {
    return col == kNobody ? 0.0 : number_of(peek(labels + col));
  }

  __device__ Lowering lowering() const { return {lowered_, spare_, round_, s_.stamp[round_ % 2]}; }

  // A row's first time in a phase: u, exact at these prices, which is returned, and the distance to
  // the list's bound.
  __device__ double enter(int i, const Look& l) {
    const double u = l.best < infinity() ? l.best : 0.0;
    __syncwarp();
    if (lane_id() == 0) {
      s_.u[i] = u;
      s_.slack[i] = l.bound < infinity() ? l.bound - l.best : infinity();
      s_.whole_base[i] = s_.fence_base[i] = infinity();
      s_.fence[i] = kUnreached;
      s_.entered[i] = phase_;
      new_trip(&control_);
      s_.tree[atomicAdd(&control_.tree, 1)] = i;
    }
    return u;
  }

  // A row's list, in the trip of the read before it.
  struct List {
    bool entered;  // in this phase
    double u;      // if so
    Entry entry;
  };
  __device__ List list_too(int i) const {
    return {peek_too(s_.entered + i) == phase_, peek_too(s_.u + i), entry_too(p_, s_, i)};
  }

  __device__ void relax_list(int i, const List& list, double base, Word reach) {
    double u = list.u;
    Entry e = list.entry;
    for (;;) {
      const double price = peek(s_.v + e.col);
      const Word label = peek_too(known_ + e.col);
      const int row = peek_too(s_.row_of_col + e.col);
      if (!list.entered) {
        const Look l = look(e, price);
        if (!l.current()) {
          read_again(p_, s_, i, FlatPrices{s_.v});
          e = entry(p_, s_, i);
          continue;
        }
        u = enter(i, l);
      }
      if (lane_id() == 0) {
        s_.base[round_ % 2][i] = base;
        s_.relaxed[round_ % 2][i] = round_;
      }
      const Word key = path_length(base, e.cost, price, u);
      if (e.cost < infinity() && key <= reach && key < label)
        lowering()(s_, e.col, row, key, label);
      return;
    }
  }

  // Columns whose labels fell in the last round: replays the labels, relaxes the columns' rows.
  __device__ void relax_queue(int count, Word reach) {
    const Word* const queue = s_.queue[round_ % kQueues];
    for (int k = team_.warp(); k < count; k += team_.warps()) {
      const Word word = peek(queue + k);
      const int j = queued_col(word), i = queued_row(word);
      const Word key = peek(known_ + j);
      List list{};
      if (i != kNobody) list = list_too(i);
      if (lane_id() == 0) atomicMin(lowered_ + j, key);
      if (i != kNobody && key <= reach) relax_list(i, list, number_of(key), reach);
    }
  }

  // Who made the labels that fell in the last round.  `count` columns were relaxed in it.
  __device__ void record(int count) {
    const int last = round_ - 1;
    const bool first = last == first_round_;
    const Word* const queue = s_.queue[last % kQueues];
    const int relaxed = first ? sources_ : count;
    for (int k = team_.warps() - 1 - team_.warp(); k < relaxed; k += team_.warps()) {
      const int i = first ? peek(s_.sources + k) : queued_row(peek(queue + k));
      if (i == kNobody) continue;
      // One beyond the reach was not relaxed then and may be now, its list written by another warp.
      if (peek(s_.relaxed[last % 2] + i) != last) continue;
      const double base = peek(s_.base[last % 2] + i), u = peek_too(s_.u + i);
      const Entry e = entry_too(p_, s_, i);
      const double price = peek(s_.v + e.col);
      const Word label = peek_too(known_ + e.col);
      if (e.cost < infinity() && path_length(base, e.cost, price, u) == label &&
          peek(s_.stamp[last % 2] + e.col) == last) {
        atomicMin(s_.pred + e.col, parent_word(last, i, e.col));
      }
    }
  }

  struct Fences {
    Word low, high;
  };
  // Below its fence a row of the trees has told all: sets them, and returns the lowest and the
  // highest.
  __device__ Fences fences(int turn) {
    const Word* const labels = lowered_;
    Word low = kUnreached, above = kUnreached;  // above: complement of the highest
    const int count = peek(&control_.tree);
    for (int k = rank_; k < count; k += size_) {
      const int i = peek(s_.tree + k);
      const int col = peek(s_.col_of_row + i);
      const double slack = peek_too(s_.slack + i);
      double whole_base = peek_too(s_.whole_base + i);
      const double before = peek_too(s_.fence_base + i);
      if (k < whole_rows_ && peek_too(s_.fence + i) <= theta_) {
        whole_base = before;
        atomicAdd(&control_.report.whole_rows, 1);
      }
      const double base = label_of(col, labels);
      const bool told = whole_base == base || !(slack < infinity());
      const Word fence = told ? kUnreached : key_of(base + slack);
      s_.whole_base[i] = whole_base;
      s_.fence_base[i] = base;
      s_.fence[i] = fence;
      low = fence < low ? fence : low;
      if (fence != kUnreached && ~fence < above) above = ~fence;
    }
    low = least_in_warp(low);
    above = least_in_warp(above);
    if (lane_id() == 0 && low != kUnreached) {
      atomicMin(&control_.fence_low[turn], low);
      atomicMax(&control_.fence_high[turn], ~above);
    }
    team_.sync();
    whole_rows_ = count;
    const Word lowest = peek(&control_.fence_low[turn]);
    return {lowest, peek_too(&control_.fence_high[turn])};
  }

  // Calls f(label) for the free columns, dealt out to the lanes of a warp.
  template <typename F>
  __device__ void for_free_labels(const Word* labels, F f) const {
    constexpr int kAhead = 4;
    for (int first = lane_id(); first < free_cols_; first += kAhead * kWarp) {
      int col[kAhead];
      Word label[kAhead];
      new_trip(s_.free_cols);
#pragma unroll
      for (int n = 0; n < kAhead; ++n) {
        const int k = first + n * kWarp;
        col[n] = peek_too(s_.free_cols + (k < free_cols_ ? k : first));
      }
      new_trip(labels);
#pragma unroll
      for (int n = 0; n < kAhead; ++n) label[n] = peek_too(labels + col[n]);
#pragma unroll
      for (int n = 0; n < kAhead; ++n) {
        if (first + n * kWarp < free_cols_) f(label[n]);
      }
    }
  }

  struct Lengths {
    Word wanted;          // D, if the fence lies beyond
    int within;           // free columns not beyond the fence
    Word longest_within;  // kUnreached if there is none
  };
  __device__ Lengths lengths(Word fence) const {
    Word below_farthest = kUnreached, below_longest = kUnreached;
    int within = 0;
    for_free_labels(lowered_, [&](Word length) {
      below_farthest = ~length < below_farthest ? ~length : below_farthest;
      if (length <= fence && length != kUnreached) {
        ++within;
        below_longest = ~length < below_longest ? ~length : below_longest;
      }
    });
    below_farthest = least_in_warp(below_farthest);
    below_longest = least_in_warp(below_longest);
    within = sum_in_warp(within);
    return {~below_farthest, within, within > 0 ? ~below_longest : kUnreached};
  }

  // By one warp, for the round after this: no path beyond the farthest free column is of use.
  __device__ void publish_reach() {
    Word below_farthest = kUnreached;
    for_free_labels(known_, [&](Word length) {
      below_farthest = ~length < below_farthest ? ~length : below_farthest;
    });
    below_farthest = least_in_warp(below_farthest);
    if (lane_id() == 0) control_.reach[(round_ + 1) % 2] = ~below_farthest;
  }

  // New prices, and a column for each root whose tree holds a free one.
  __device__ void augment(Word length) {
    const Word* const labels = lowered_;
    const double farthest = number_of(length);
    for (int k = rank_; k < free_cols_; k += size_) {
      const int col = peek(s_.free_cols + k);
      int root = kNobody;
      if (peek(labels + col) <= length) {
        int i = parent_row(peek(s_.pred + col));
        int steps = 0;
        for (int j = peek(s_.col_of_row + i); j != kNobody && steps <= p_.rows; ++steps) {
          i = parent_row(peek(s_.pred + j));
          j = peek(s_.col_of_row + i);
        }
        if (steps > p_.rows) {
          raise(&control_.broken);
        } else {
          root = i;
          atomicMin(s_.choice + root, col);
        }
      }
      s_.root[k] = root;
    }
    for (int j = rank_; j < p_.cols; j += size_) {
      const Word label = peek(labels + j);
      if (label < length) s_.v[j] = peek(s_.v + j) + (number_of(label) - farthest);
    }
    team_.sync();
    if (peek(&control_.broken) != 0) return;
    for (int k = rank_; k < free_cols_; k += size_) {
      const int root = s_.root[k];
      if (root == kNobody || peek(s_.choice + root) != peek(s_.free_cols + k)) continue;
      for (int j = peek(s_.free_cols + k); j != kNobody;) {
        const int i = parent_row(peek(s_.pred + j));
        const int given_up = peek(s_.col_of_row + i);
        s_.col_of_row[i] = j;
        s_.row_of_col[j] = i;
        j = given_up;
      }
    }
  }

  const Problem<T>& p_;
  const State& s_;
  Team<kWide>& team_;
  Control& control_;
  const bool spare_;
  const int most_work_, rank_, size_;
  int spent_ = 0;  // before this phase, but for rounds
  int phase_ = 0, round_ = 0, first_round_ = 0, sources_ = 0, free_cols_ = 0;
  Word theta_ = 0;               // rows of the trees, of the first so many, with fences up to it:
  int whole_rows_ = 0;           // relaxed whole in the last round in which any were
  const Word* known_ = nullptr;  // labels that the last round completed
  Word* lowered_ = nullptr;      // those of this round
};

}  // namespace bmatch::cuda
