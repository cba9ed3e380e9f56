// The exact finish: shortest augmenting paths from all free rows at once.
//
// Every free row is the root of a tree.  Labels d_j, the length of a shortest path from any root to
// column j over reduced costs, are corrected in rounds until nothing below D changes.  Then
// v_j += d_j - D where d_j < D, which makes the trees' edges tight, and each tree that holds a free
// column gives its root one, along paths that share nothing.  Prices only fall, so lists stay
// true.  D may be any length where all columns may lose price: that of the farthest free column, or
// less where many are near.  With spare columns, whose price is zero in every optimum, it is that of
// the nearest.
//
// A list holds a row's columns up to its bound, so labels are final below the fence, the least of
// label + (bound - u) over the rows of the trees.  Where D lies beyond, the rows with the lowest
// fences are relaxed whole.
//
// As in bidding.h two arrays of labels take turns: a round reads those that the last one completed
// and lowers the others, so one barrier a round is enough, and outcomes depend on sets alone.  Who
// labelled a column is recorded a round later, when its label is known: among all who did, the
// least by hash and row.  Ties are many in some matrices, and the hash spreads the trees.
#pragma once

#include <climits>

#include "row_lists.h"
#include "team.h"

namespace bmatch::cuda {

constexpr Word kUnreached = ~Word{0};
constexpr int kWholeShare = 8;  // of the lengths between fence and D that are relaxed whole at once

// Later rounds first, so that the latest fall of a label is the one that counts.
__device__ inline Word parent_word(int round, int row, int col) {
  const unsigned hash = (static_cast<unsigned>(row) * 0x9e3779b1u ^ static_cast<unsigned>(col) * 0x85ebca6bu) >> 24;
  return (Word{0xffffffu - static_cast<unsigned>(round)} << 40) | (Word{hash} << 32) |
         static_cast<unsigned>(row);
}
__device__ inline int parent_row(Word word) { return static_cast<int>(word & 0xffffffffu); }

template <typename T>
class Forest {
 public:
  __device__ Forest(const Problem<T>& p, const State& s, Team& team, bool spare_columns)
      : p_(p), s_(s), team_(team), control_(*s.control), spare_(spare_columns),
        rank_(team.thread()), size_(team.threads()) {}

  // Gives every row a column.  False if there is none; then entered[i] == phase() marks rows that
  // compete for fewer columns.
  __device__ bool grow() {
    for (int i = rank_; i < p_.rows; i += size_) s_.entered[i] = 0;
    bool alone = false;
    for (;;) {
      ++phase_;
      plant(alone);
      if (sources_ == 0) return true;
      const Word length = label();
      if (rank_ == 0) {
        control_.report.forest_phases += 1;
        control_.report.forest_rounds += round_;
      }
      if (length == kUnreached) {
        if (alone || sources_ == 1) return false;
        alone = true;  // one root whose tree is closed is the shortest proof
        continue;
      }
      alone = false;
      augment(length);
      if (peek(&control_.broken) != 0) return false;
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
    for (int i = rank_; i < p_.rows; i += size_) {
      s_.relaxed[0][i] = s_.relaxed[1][i] = -1;
      if (peek(s_.col_of_row + i) == kNobody) {
        atomicMin(&control_.lowest_source, i);
        if (!alone) s_.sources[atomicAdd(&control_.sources, 1)] = i;
        s_.choice[i] = INT_MAX;
      }
    }
    for (int j = rank_; j < p_.cols; j += size_) {
      s_.words[0][j] = s_.words[1][j] = s_.pred[j] = kUnreached;
      s_.stamp[0][j] = s_.stamp[1][j] = -1;
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
    free_cols_ = peek(&control_.free_cols);
  }

  // Labels columns until D is known, and returns its key; kUnreached if no free column can be.
  __device__ Word label() {
    bool fell = true, whole = false, whole_before = false;
    Word theta = 0;  // rows with fences up to it are relaxed whole in this round
    int stops = 0;   // rounds in which nothing fell
    for (round_ = 0;; ++round_) {
      known_ = s_.words[round_ % 2];
      lowered_ = s_.words[(round_ + 1) % 2];
      // `nearest` may fall meanwhile: one lane reads it for all, so that they stay together.
      const Word reach = __shfl_sync(
          kAllLanes, peek(spare_ ? &control_.nearest : &control_.reach[round_ % 2]), 0);
      if (round_ == 0) {
        for (int k = team_.warp(); k < sources_; k += team_.warps()) relax_list(peek(s_.sources + k), 0.0);
      } else {
        if (fell) record(whole_before);
        relax_queue(reach);
        if (whole) relax_whole_rows(theta, reach, stops % 3);
      }
      if (rank_ == 0) control_.queued[(round_ + 2) % kQueues] = 0;
      if (!spare_ && team_.warp() == 0) publish_reach();
      team_.sync();
      fell = peek(&control_.queued[(round_ + 1) % kQueues]) > 0;
      whole_before = whole && fell;
      whole = false;
      if (fell) continue;
      // Nothing below the fence can change any more.
      ++stops;
      const auto [low, high] = fences(stops % 3);
      const auto [farthest, nearest, within, longest_within] = lengths(low);
      const Word wanted = spare_ ? nearest : farthest;
      if (wanted <= low && wanted != kUnreached) return wanted;
      if (low == kUnreached) return spare_ ? kUnreached : longest_within;
      if (!spare_ && within > 0 && 4 * within >= sources_) return longest_within;
      const double from = number_of(low), to = number_of(wanted != kUnreached ? wanted : high);
      const double share = from + (to - from) / kWholeShare;
      theta = share >= from && share < infinity() ? key_of(share) : low;
      whole = true;
    }
  }

  __device__ double label_of_row(int i, const Word* labels) const {
    const int col = peek(s_.col_of_row + i);
    return col == kNobody ? 0.0 : number_of(peek(labels + col));
  }

  // The first time in a phase: u, exact at its prices, and the distance to the list's bound.
  __device__ void enter(int i) {
    if (peek(s_.entered + i) == phase_) return;
    const Look l = fresh_look(p_, s_, i, FlatPrices{s_.v});
    __syncwarp();
    if (lane_id() == 0) {
      s_.u[i] = l.best < infinity() ? l.best : 0.0;
      s_.slack[i] = l.bound < infinity() ? l.bound - l.best : infinity();
      s_.whole_phase[i] = 0;
      s_.entered[i] = phase_;
      s_.tree[atomicAdd(&control_.tree, 1)] = i;
    }
    __threadfence();
    __syncwarp();
  }

  // Column j can be reached over length `key`.
  __device__ void lower(int j, Word key, Word reach) {
    if (key > reach || key >= peek(known_ + j)) return;
    atomicMin(lowered_ + j, key);
    if (spare_ && peek(s_.row_of_col + j) == kNobody) atomicMin(&control_.nearest, key);
    if (atomicExch(&s_.stamp[round_ % 2][j], round_) != round_) {
      const int next = (round_ + 1) % kQueues;
      s_.queue[next][atomicAdd(&control_.queued[next], 1)] = j;
    }
  }

  __device__ static Word length_of(double base, double cost, double v, double u) {
    return key_of(base + ((cost - v) - u));
  }

  template <typename F>
  __device__ void for_listed(int i, F f) const {
    const std::size_t from = static_cast<std::size_t>(i) * kListRoom + lane_id();
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const double cost = peek(s_.list_cost + from + k * kWarp);
      if (cost < infinity()) f(peek(s_.list_col + from + k * kWarp), cost);
    }
  }

  __device__ void relax_list(int i, double base, Word reach = kUnreached) {
    enter(i);
    if (lane_id() == 0) {
      s_.base[round_ % 2][i] = base;
      s_.relaxed[round_ % 2][i] = round_;
    }
    const double u = peek(s_.u + i);
    for_listed(i, [&](int j, double cost) {
      lower(j, length_of(base, cost, peek(s_.v + j), u), reach);
    });
    __syncwarp();
  }

  // Columns whose labels fell in the last round: replays the labels, relaxes the columns' rows.
  __device__ void relax_queue(Word reach) {
    const int* const queue = s_.queue[round_ % kQueues];
    const int count = peek(&control_.queued[round_ % kQueues]);
    for (int k = team_.warp(); k < count; k += team_.warps()) {
      const int j = peek(queue + k);
      const Word key = peek(known_ + j);
      if (lane_id() == 0) atomicMin(lowered_ + j, key);
      const int i = peek(s_.row_of_col + j);
      if (i != kNobody && key <= reach) relax_list(i, number_of(key), reach);
    }
  }

  __device__ void relax_whole_rows(Word theta, Word reach, int turn) {
    const int count = peek(&control_.tree);
    for (int k = team_.warp(); k < count; k += team_.warps()) {
      const int i = peek(s_.tree + k);
      const double base = label_of_row(i, known_);
      if (fence_of(i, base) > theta) continue;
      __syncwarp();
      if (lane_id() == 0) {
        s_.whole_base[i] = base;
        s_.whole_phase[i] = phase_;
        s_.whole_round[i] = round_;
        atomicAdd(&control_.report.whole_rows, 1);
      }
      const double u = peek(s_.u + i);
      for_finite(p_, i, [&](int j, double cost) {
        lower(j, length_of(base, cost, peek(s_.v + j), u), reach);
      });
      __syncwarp();
    }
    if (rank_ == 0) {  // for the stop after the next
      control_.fence_low[(turn + 1) % 3] = kUnreached;
      control_.fence_high[(turn + 1) % 3] = 0;
    }
  }

  // Who made the labels that fell in the last round.
  __device__ void record(bool whole) {
    const int last = round_ - 1;
    auto claim = [&](int i, int j, Word key) {
      if (key == peek(known_ + j) && peek(s_.stamp[last % 2] + j) == last) {
        atomicMin(s_.pred + j, parent_word(last, i, j));
      }
    };
    auto record_list = [&](int i) {
      if (peek(s_.relaxed[last % 2] + i) != last) return;
      const double base = peek(s_.base[last % 2] + i), u = peek(s_.u + i);
      for_listed(i, [&](int j, double cost) {
        claim(i, j, length_of(base, cost, peek(s_.v + j), u));
      });
    };
    if (last == 0) {
      for (int k = team_.warp(); k < sources_; k += team_.warps()) record_list(peek(s_.sources + k));
    } else {
      const int* const queue = s_.queue[last % kQueues];
      const int count = peek(&control_.queued[last % kQueues]);
      for (int k = team_.warp(); k < count; k += team_.warps()) {
        const int i = peek(s_.row_of_col + peek(queue + k));
        if (i != kNobody) record_list(i);
      }
    }
    if (!whole) return;
    const int count = peek(&control_.tree);
    for (int k = team_.warp(); k < count; k += team_.warps()) {
      const int i = peek(s_.tree + k);
      if (peek(s_.whole_phase + i) != phase_ || peek(s_.whole_round + i) != last) continue;
      const double base = peek(s_.whole_base + i), u = peek(s_.u + i);
      for_finite(p_, i, [&](int j, double cost) {
        claim(i, j, length_of(base, cost, peek(s_.v + j), u));
      });
    }
  }

  // Below this length row i has told all; key.
  __device__ Word fence_of(int i, double base) const {
    const bool whole = peek(s_.whole_phase + i) == phase_ && peek(s_.whole_base + i) == base;
    const double slack = peek(s_.slack + i);
    return whole || !(slack < infinity()) ? kUnreached : key_of(base + slack);
  }

  struct Fences {
    Word low, high;
  };
  // The lowest and the highest fence of the trees' rows.
  __device__ Fences fences(int turn) {
    const Word* const labels = lowered_;
    Word low = kUnreached, above = kUnreached;  // above: complement of the highest
    const int count = peek(&control_.tree);
    for (int k = rank_; k < count; k += size_) {
      const int i = peek(s_.tree + k);
      const Word fence = fence_of(i, label_of_row(i, labels));
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
    return {peek(&control_.fence_low[turn]), peek(&control_.fence_high[turn])};
  }

  struct Lengths {
    Word farthest, nearest;  // of the free columns
    int within;              // free columns not beyond the fence
    Word longest_within;     // kUnreached if there is none
  };
  __device__ Lengths lengths(Word fence) const {
    Word nearest = kUnreached, below_farthest = kUnreached, below_longest = kUnreached;
    int within = 0;
    for (int k = lane_id(); k < free_cols_; k += kWarp) {
      const Word length = peek(lowered_ + peek(s_.free_cols + k));
      nearest = length < nearest ? length : nearest;
      below_farthest = ~length < below_farthest ? ~length : below_farthest;
      if (length <= fence && length != kUnreached) {
        ++within;
        below_longest = ~length < below_longest ? ~length : below_longest;
      }
    }
    nearest = least_in_warp(nearest);
    below_farthest = least_in_warp(below_farthest);
    below_longest = least_in_warp(below_longest);
    within = sum_in_warp(within);
    return {~below_farthest, nearest, within, within > 0 ? ~below_longest : kUnreached};
  }

  // By one warp, for the round after this: no path beyond the farthest free column is of use.
  __device__ void publish_reach() {
    Word below_farthest = kUnreached;
    for (int k = lane_id(); k < free_cols_; k += kWarp) {
      const Word length = peek(known_ + peek(s_.free_cols + k));
      below_farthest = ~length < below_farthest ? ~length : below_farthest;
    }
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
          control_.broken = 1;
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
  Team& team_;
  Control& control_;
  const bool spare_;
  const int rank_, size_;
  int phase_ = 0, round_ = 0, sources_ = 0, free_cols_ = 0;
  const Word* known_ = nullptr;  // labels that the last round completed
  Word* lowered_ = nullptr;      // those of this round
};

}  // namespace bmatch::cuda
