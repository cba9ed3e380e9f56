// The whole solve of one problem, by a team of any size.
//
// One read of the matrix finds each row's best column and its candidate list.  Where the best
// columns differ, that is the answer, with row minima and zero prices as its proof.  Elsewhere an
// auction with epsilon scaling, stopped at 1% of free rows, leads to good prices (square matrices
// and wide teams only); rows that are not tight are let go; row reduction and the forest give every
// row a column.  A search that comes to more work than it may is left to the host, which has other
// ways: products and the like take a thousand times the rounds that others do. Exactness is that of
// assignment/solver.h: float64 prices, reduced costs fl(c - v) everywhere.
//
// D. P. Bertsekas, "The auction algorithm", Annals of Operations Research 14 (1988); the
// multi-source paths are Hopcroft and Karp's idea on the tight graph, with lengths.
#pragma once

#include "bidding.h"
#include "exactness.h"
#include "forest.h"
#include "totals.h"

namespace bmatch::cuda {

constexpr int kSampledRows = 1024;    // for the mean gap between best column and bound
constexpr double kManyFree = 0.15;    // of the rows: fewer are left to row reduction and forest
constexpr int kFewFree = 100;         // an auction stops at n / 100 rows
constexpr int kAuctionRounds = 4000;  // of a phase, or as many as are half of the work there may be
constexpr int kBlockReductionRounds = 64, kWideReductionRounds = 32;  // barriers are dear there
constexpr double kFirstEpsilon = 0.05, kLastEpsilon = 0.005;          // of the mean gap

template <typename T, bool kWide>
class Solve {
 public:
  // `prices`: [cols] of a similar problem, or null; most_work: 0 for no limit.
  __device__ Solve(const Problem<T>& p, const State& s, Team<kWide>& team, const double* prices,
                   int most_work)
      : p_(p),
        s_(s),
        team_(team),
        control_(*s.control),
        prices_(prices),
        most_work_(most_work),
        rank_(team.thread()),
        size_(team.threads()),
        spare_(p.cols > p.rows) {}

  // Returns the outcome.
  __device__ int run() {
    const int free = start();
    int outcome = kOptimal;
    if (peek(&control_.invalid) != 0) {
      outcome = kInvalid;
    } else if (free == p_.rows - 1 && constant()) {
      identity();
    } else if (free > 0) {
      outcome = search(free);
    }
    if (outcome == kOptimal || outcome == kDwarfed) {
      certify(outcome == kDwarfed);
      if (peek(&control_.inexact) == 0) outcome = kOptimal;
    }
    if (peek(&control_.broken) != 0) outcome = kBroken;
    if (rank_ == 0) control_.report.outcome = outcome;
    return outcome;
  }

 private:
  // Lists and prices to search from, and columns to those rows that come first.  Returns how many
  // are left without.
  __device__ int start() {
    if (rank_ == 0) {
      control_.invalid = control_.broken = control_.inexact = control_.uneven = control_.dear = 0;
      control_.highest_price = control_.greatest_price = 0;
      control_.report = Report{};
      if (p_.cols % 2 != 0) {  // prices are read in pairs, the last with one that is of no use
        s_.v[p_.cols] = 0.0;
        s_.words[0][p_.cols] = s_.words[1][p_.cols] = key_of(0.0);
      }
    }
    int free = p_.rows;
    if (prices_ != nullptr && !spare_) free = start_warm();
    if (2 * free > p_.rows) {  // no prices, or a bad start: most rows want the same columns
      free = start_cold();
      least_ = free == 0;
    }
    return free;
  }

  // From prices of zero, with row minima.
  __device__ int start_cold() {
    for (int j = rank_; j < p_.cols; j += size_) s_.v[j] = 0.0;
    return scan_and_claim(NoPrices{}, [this](int i, const RowBest& found) {
      s_.least[i] = found.best;
      if (!found.valid) raise(&control_.invalid);
    });
  }

  // From given prices, shifted so that none is above zero.
  __device__ int start_warm() {
    double lowest = infinity();  // of the negated prices; by every warp
    for (int j = lane_id(); j < p_.cols; j += kWarp) {
      const double x = -prices_[j];
      lowest = x < lowest ? x : lowest;
    }
    lowest = least_in_warp(lowest);
    const WordFormat format(p_.rows);
    for (int j = rank_; j < p_.cols; j += size_) {
      s_.v[j] = format.rounded_down(prices_[j] + lowest);
    }
    return scan_and_claim(FlatPrices{s_.v}, [this](int i, const RowBest& found) {
      s_.least[i] = -infinity();  // not known: no shortcut by least costs
      if (!found.valid) raise(&control_.invalid);
    });
  }

  // Lists at these prices; columns go to the first of the rows whose best they are.  Returns how
  // many rows are left without.
  template <typename Prices, typename F>
  __device__ int scan_and_claim(Prices prices, F note) {
    Word* const first = s_.words[0];
    for (int j = rank_; j < p_.cols; j += size_) {
      s_.row_of_col[j] = kNobody;
      first[j] = kUnreached;
    }
    team_.sync();
    if (rank_ == 0) control_.free_rows = 0;
    for (int i = team_.warp(); i < p_.rows; i += team_.warps()) {
      const RowBest found = scan_row(p_, s_, i, prices);
      if (lane_id() == 0) {
        note(i, found);
        s_.col_of_row[i] = found.col;
        if (found.col != kNobody) atomicMin(first + found.col, static_cast<Word>(i));
      }
    }
    team_.sync();
    int without = 0;
    for (int i = rank_; i < p_.rows; i += size_) {
      const int j = peek(s_.col_of_row + i);
      if (j != kNobody && peek(first + j) == static_cast<Word>(i)) {
        s_.row_of_col[j] = i;
      } else {
        s_.col_of_row[i] = kNobody;
        ++without;
      }
    }
    without = sum_in_warp(without);
    if (lane_id() == 0 && without > 0) atomicAdd(&control_.free_rows, without);
    team_.sync();
    return peek(&control_.free_rows);
  }

  // Gives so many rows a column each, at prices that prove them best.  Returns the outcome; of
  // kDwarfed the certificate has the last word.
  __device__ int search(int free) {
    if (!spare_ && 2 * free > p_.rows) free = reduce_columns();
    if (free == 0) return kOptimal;
    // A block's barriers are quick, and row reduction and the forest take fewer rounds.
    const bool auctions = kWide && !spare_ && free > kManyFree * p_.rows;
    const double gap = auctions ? mean_gap() : 0.0;  // what epsilons are measured by
    for (double epsilon = gap > 0.0 ? kFirstEpsilon : 0.0;;
         epsilon = epsilon == kFirstEpsilon ? kLastEpsilon : 0.0) {
      if (gap > 0.0) release(epsilon * gap);
      const bool auction = epsilon > 0.0;
      bidding(p_, s_, team_,
              {epsilon * gap, spare_, auction ? p_.rows / kFewFree : 0,
               auction ? auction_rounds()
               : kWide ? kWideReductionRounds
                       : kBlockReductionRounds});
      if (!auction) break;
    }
    const int outcome = grow_forest();
    return outcome == kOptimal && prices_dwarf_answer() ? kDwarfed : outcome;
  }

  __device__ int auction_rounds() const {
    return 0 < most_work_ && most_work_ < kAuctionRounds ? most_work_ : kAuctionRounds;
  }

  // Whether all entries are equal; asked where all rows have the same best column.
  __device__ bool constant() {
    const double value = p_.at(0, 0);
    for (int i = team_.warp(); i < p_.rows && peek(&control_.uneven) == 0; i += team_.warps()) {
      bool same = true;
      for (int j = lane_id(); j < p_.cols; j += kWarp) same &= p_.at(i, j) == value;
      if (!same) raise(&control_.uneven);
    }
    team_.sync();
    return peek(&control_.uneven) == 0;
  }

  __device__ void identity() {
    for (int j = rank_; j < p_.cols; j += size_) s_.row_of_col[j] = j < p_.rows ? j : kNobody;
    for (int i = rank_; i < p_.rows; i += size_) s_.col_of_row[i] = i;
    team_.sync();
  }

  // Where most rows want the same columns: v_j = min_i (c_ij - u_i), shifted so that none is above
  // zero, and a new start from there.
  __device__ int reduce_columns() {
    Word* const least = s_.words[0];
    for (int j = rank_; j < p_.cols; j += size_) least[j] = kUnreached;
    team_.sync();
    lower_to_column_minima(p_, s_.least, team_.warp(), team_.warps(), least);
    team_.sync();
    for (int j = rank_; j < p_.cols; j += size_) {
      const Word key = peek(least + j);
      if (key != kUnreached) atomicMax(&control_.highest_price, key);
    }
    team_.sync();
    const double highest = number_of(peek(&control_.highest_price));
    const WordFormat format(p_.rows);
    for (int j = rank_; j < p_.cols; j += size_) {
      const Word key = peek(least + j);
      s_.v[j] = key == kUnreached ? 0.0 : format.rounded_down(number_of(key) - highest);
    }
    return scan_and_claim(FlatPrices{s_.v}, [](int, const RowBest&) {});
  }

  // Mean over some rows, in neighbouring fours, of the distance from the best column to the list's
  // bound; zero where most of them are ties, which no epsilon tells apart, or it is not finite.
  // Every warp computes it for itself.
  __device__ double mean_gap() const {
    const int apart = (p_.rows + kSampledRows - 1) / kSampledRows;
    double gap = 0.0;
    int counted = 0, ties = 0;
    constexpr int kAhead = 16;
    for (int first = lane_id(); first < kSampledRows; first += kAhead * kWarp) {
      double slack[kAhead];
      new_trip(s_.slack);
#pragma unroll
      for (int e = 0; e < kAhead; ++e) {
        const int k = first + e * kWarp, i = k / 4 * (4 * apart) + k % 4;
        slack[e] = i < p_.rows ? peek_too(s_.slack + i) : infinity();
      }
#pragma unroll
      for (int e = 0; e < kAhead; ++e) {
        if (!(slack[e] < infinity())) continue;
        gap += slack[e];
        ++counted;
        ties += slack[e] == 0.0;
      }
    }
    gap = sum_in_warp(gap);
    counted = sum_in_warp(counted);
    ties = sum_in_warp(ties);
    return 2 * ties < counted && gap < infinity() ? gap / counted : 0.0;
  }

  // Lets go of columns that cost a row more than its best by more than epsilon.
  __device__ void release(double epsilon) {
    team_.sync();
    for (int i = team_.warp(); i < p_.rows; i += team_.warps()) {
      const int j = peek(s_.col_of_row + i);
      if (j == kNobody) continue;
      const double value = p_.at(i, j) - peek(s_.v + j);
      const Look l = fresh_look(p_, s_, i, FlatPrices{s_.v});
      __syncwarp();
      if (lane_id() == 0 && value > l.best + epsilon) {
        s_.col_of_row[i] = s_.row_of_col[j] = kNobody;
      }
    }
  }

  __device__ int grow_forest() {
    Forest<T, kWide> forest(p_, s_, team_, spare_, most_work_);
    const int outcome = forest.grow();
    if (outcome != kInfeasible) return outcome;
    for (int i = rank_; i < p_.rows; i += size_) {  // who competes for too few columns
      s_.choice[i] = peek(s_.entered + i) == forest.phase() ? 1 : 0;
    }
    return outcome;
  }

  // Whether rounding at the scale of the prices may outweigh the answer (assignment/solver.h).  If
  // every row has its least cost, that proves it, and prices become zero.
  __device__ bool prices_dwarf_answer() {
    for (int i = rank_; i < p_.rows; i += size_) {
      const double cost = p_.at(i, peek(s_.col_of_row + i));
      if (cost > peek(s_.least + i)) raise(&control_.dear);
      s_.fence_base[i] = cost < 0.0 ? -cost : cost;
    }
    for (int j = rank_; j < p_.cols; j += size_) {
      const double v = peek(s_.v + j);
      if (v != 0.0) atomicMax(&control_.greatest_price, key_of(v < 0.0 ? -v : v));
    }
    team_.sync();
    const Word greatest = peek(&control_.greatest_price);
    if (greatest == 0) return false;
    if (peek(&control_.dear) == 0) {
      for (int j = rank_; j < p_.cols; j += size_) s_.v[j] = 0.0;
      least_ = true;
      return false;
    }
    double magnitudes[1];
    totals(team_, p_.rows, {s_.fence_base}, s_.whole_base, magnitudes);
    return prices_dwarf(number_of(greatest), magnitudes[0], p_.rows);
  }

  // Row duals, exactly min_j (c_ij - v_j); objective and gap; whether the answer stands although
  // its prices dwarf it.
  __device__ void certify(bool dwarfed) {
    const double greatest = number_of(peek(&control_.greatest_price));
    double* const costs = s_.base[0];
    double* const reduced = s_.base[1];  // by v and u
    for (int i = team_.warp(); i < p_.rows; i += team_.warps()) {
      const int j = peek(s_.col_of_row + i);
      const double cost = p_.at(i, j), price = least_ ? 0.0 : peek_too(s_.v + j);
      // Lists of a while ago say nothing at prices that rose to zero.
      const double u =
          least_ ? peek_too(s_.least + i) : fresh_look(p_, s_, i, FlatPrices{s_.v}).best;
      if (dwarfed && !exact_on_a_grid(p_, i, cost - price, u, greatest)) raise(&control_.inexact);
      if (lane_id() == 0) {
        s_.u[i] = u;
        costs[i] = cost;
        reduced[i] = (cost - price) - u;
      }
    }
    team_.sync();
    double sums[2];
    totals(team_, p_.rows, {costs, reduced}, s_.fence_base, sums);
    if (rank_ == 0) {
      control_.report.objective = sums[0];
      control_.report.gap = sums[1];
    }
  }

  const Problem<T>& p_;
  const State& s_;
  Team<kWide>& team_;
  Control& control_;
  const double* const prices_;
  const int most_work_, rank_, size_;
  const bool spare_;
  bool least_ = false;  // every row has its least cost, and prices are zero
};

}  // namespace bmatch::cuda
