// The whole solve of one problem, by a team of any size, or in three parts by different teams.
//
// One read of the matrix finds each row's best column and its candidate list.  Where the best
// columns differ, that is the answer, with row minima and zero prices as its proof.  Elsewhere an
// auction with epsilon scaling, stopped at 1% of free rows, leads to good prices (square matrices
// only); rows that are not tight are let go; row reduction and the forest give every row a column.
// Exactness is that of assignment/solver.h: float64 prices, reduced costs fl(c - v) everywhere.
//
// D. P. Bertsekas, "The auction algorithm", Annals of Operations Research 14 (1988); the
// multi-source paths are Hopcroft and Karp's idea on the tight graph, with lengths.
#pragma once

#include "bidding.h"
#include "forest.h"

namespace bmatch::cuda {

constexpr int kSampledRows = 1024;     // for the mean gap between best column and bound
constexpr double kManyFree = 0.15;     // of the rows: fewer are left to row reduction and forest
constexpr int kFewFree = 100;          // an auction stops at n / 100 rows
constexpr int kAuctionRounds = 4000;   // of a phase
constexpr int kReductionRounds = 64;
constexpr double kFirstEpsilon = 0.02, kLastEpsilon = 0.002;  // of the mean gap

// Start and finish read the whole matrix, the search hardly any of it.
enum class Part : int { whole, start, search, finish };

template <typename T>
class Solve {
 public:
  // `prices`: [cols] of a similar problem, or null.
  __device__ Solve(const Problem<T>& p, const State& s, Team& team, const double* prices)
      : p_(p), s_(s), team_(team), control_(*s.control), prices_(prices), rank_(team.thread()),
        size_(team.threads()), spare_(p.cols > p.rows) {}

  __device__ void run(Part part) {
    const bool whole = part == Part::whole;
    if (whole || part == Part::start) {
      start();
    } else {
      standing_ = control_.standing;
    }
    if (whole || part == Part::search) search();
    if (whole || part == Part::finish) return finish();
    if (rank_ == 0) control_.standing = standing_;
  }

 private:
  // Lists and prices to search from, and whether there is anything to search for.
  __device__ void start() {
    if (rank_ == 0) {
      control_.invalid = control_.broken = control_.inexact = 0;
      control_.report = Report{};
    }
    int free = p_.rows;
    if (prices_ != nullptr && !spare_) {
      start_warm();
      free = count_free();
    }
    if (2 * free > p_.rows) {  // no prices, or a bad start: most rows want the same columns
      start_cold();
      free = count_free();
    }
    if (peek(&control_.invalid) != 0) return settle_as(kInvalid);
    if (free == p_.rows - 1 && constant()) {
      identity();
      return settle_as(kOptimal);
    }
    if (!spare_ && free > 0) {
      if (2 * free > p_.rows) {
        reduce_columns();
        free = count_free();
      }
      if (free > kManyFree * p_.rows) standing_.gap = mean_gap();
      if (!(standing_.gap < infinity())) standing_.gap = 0.0;
    }
    if (free == 0) settle_as(kOptimal);
  }
  __device__ void settle_as(int outcome) {
    standing_.settled = true;
    standing_.outcome = outcome;
  }

  // First pass: lists, row minima, and columns to those rows that come first.
  __device__ void start_cold() {
    for (int j = rank_; j < p_.cols; j += size_) s_.v[j] = 0.0;
    scan_and_claim(NoPrices{}, [this](int i, const RowBest& found) {
      s_.least[i] = found.best;
      if (!found.valid) control_.invalid = 1;
    });
  }

  // The same at given prices, shifted so that none is above zero.
  __device__ void start_warm() {
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
    scan_and_claim(FlatPrices{s_.v}, [this](int i, const RowBest& found) {
      s_.least[i] = -infinity();  // not known: no shortcut by least costs
      if (!found.valid) control_.invalid = 1;
    });
  }

  // Lists at these prices; columns go to the first of the rows whose best they are.
  template <typename Prices, typename F>
  __device__ void scan_and_claim(Prices prices, F note) {
    Word* const first = s_.words[0];
    for (int j = rank_; j < p_.cols; j += size_) {
      s_.row_of_col[j] = kNobody;
      first[j] = kUnreached;
    }
    team_.sync();
    for (int i = team_.warp(); i < p_.rows; i += team_.warps()) {
      const RowBest found = scan_row(p_, s_, i, prices);
      if (lane_id() == 0) {
        note(i, found);
        s_.col_of_row[i] = found.col;
        if (found.col != kNobody) atomicMin(first + found.col, static_cast<Word>(i));
      }
    }
    team_.sync();
    for (int i = rank_; i < p_.rows; i += size_) {
      const int j = peek(s_.col_of_row + i);
      if (j != kNobody && peek(first + j) == static_cast<Word>(i)) {
        s_.row_of_col[j] = i;
      } else {
        s_.col_of_row[i] = kNobody;
      }
    }
  }

  // A column for every row, and prices that prove them best.
  __device__ void search() {
    if (standing_.settled) return;
    const double gap = standing_.gap;
    for (double epsilon = gap > 0.0 ? kFirstEpsilon : 0.0;;
         epsilon = epsilon == kFirstEpsilon ? kLastEpsilon : 0.0) {
      if (gap > 0.0) release(epsilon * gap);
      const bool auction = epsilon > 0.0;
      bidding(p_, s_, team_,
              {epsilon * gap, spare_, auction ? p_.rows / kFewFree : 0,
               auction ? kAuctionRounds : kReductionRounds});
      if (!auction) break;
    }
    standing_.outcome = !grow_forest() ? kInfeasible : prices_dwarf_answer() ? kDwarfed : kOptimal;
  }

  // The certificate, and the report.
  __device__ void finish() {
    int outcome = standing_.outcome;
    if (outcome == kOptimal || outcome == kDwarfed) {
      certify(outcome == kDwarfed);
      if (peek(&control_.inexact) == 0) outcome = kOptimal;
    }
    if (rank_ == 0) control_.report.outcome = peek(&control_.broken) != 0 ? kBroken : outcome;
    team_.sync();
  }

  __device__ int count_free() {
    if (rank_ == 0) control_.free_rows = 0;
    team_.sync();
    int mine = 0;
    for (int i = rank_; i < p_.rows; i += size_) mine += peek(s_.col_of_row + i) == kNobody;
    mine = sum_in_warp(mine);
    if (lane_id() == 0 && mine > 0) atomicAdd(&control_.free_rows, mine);
    team_.sync();
    return peek(&control_.free_rows);
  }

  // Whether all entries are equal; asked where all rows have the same best column.
  __device__ bool constant() {
    if (rank_ == 0) control_.minimal = 1;
    team_.sync();
    const double value = p_.at(0, 0);
    for (int i = team_.warp(); i < p_.rows && peek(&control_.minimal) != 0; i += team_.warps()) {
      bool same = true;
      for (int j = lane_id(); j < p_.cols; j += kWarp) same &= p_.at(i, j) == value;
      if (!same) control_.minimal = 0;
    }
    team_.sync();
    return peek(&control_.minimal) != 0;
  }

  __device__ void identity() {
    for (int j = rank_; j < p_.cols; j += size_) s_.row_of_col[j] = j < p_.rows ? j : kNobody;
    for (int i = rank_; i < p_.rows; i += size_) s_.col_of_row[i] = i;
  }

  // Where most rows want the same columns: v_j = min_i (c_ij - u_i), shifted so that none is above
  // zero, and a new start from there.
  __device__ void reduce_columns() {
    Word* const least = s_.words[0];
    for (int j = rank_; j < p_.cols; j += size_) least[j] = kUnreached;
    if (rank_ == 0) control_.greatest_price = 0;
    team_.sync();
    for (int i = team_.warp(); i < p_.rows; i += team_.warps()) {
      const double u = peek(s_.least + i);
      if (!(u < infinity())) continue;
      for_finite(p_, i, [&](int j, double cost) {
        const Word key = key_of(cost - u);
        if (key < peek(least + j)) atomicMin(least + j, key);
      });
    }
    team_.sync();
    for (int j = rank_; j < p_.cols; j += size_) {
      if (peek(least + j) != kUnreached) atomicMax(&control_.greatest_price, peek(least + j));
    }
    team_.sync();
    const double greatest = number_of(peek(&control_.greatest_price));
    const WordFormat format(p_.rows);
    for (int j = rank_; j < p_.cols; j += size_) {
      const Word key = peek(least + j);
      s_.v[j] = key == kUnreached ? 0.0 : format.rounded_down(number_of(key) - greatest);
    }
    scan_and_claim(FlatPrices{s_.v}, [](int, const RowBest&) {});
  }

  // Mean over some rows of the distance from the best column to the list's bound; every warp
  // computes it for itself.
  __device__ double mean_gap() const {
    const int step = (p_.rows + kSampledRows - 1) / kSampledRows;
    double gap = 0.0;
    int counted = 0;
    for (int i = lane_id() * step; i < p_.rows; i += kWarp * step) {
      double best = infinity();
      for (int k = 0; k < kListRoom; ++k) {
        const std::size_t at = static_cast<std::size_t>(i) * kListRoom + k;
        const double cost = peek(s_.list_cost + at);
        if (!(cost < infinity())) continue;
        const double value = cost - peek(s_.v + peek(s_.list_col + at));
        best = value < best ? value : best;
      }
      const double bound = peek(s_.bound + i);
      if (bound < infinity()) {
        gap += bound - best;
        ++counted;
      }
    }
    gap = sum_in_warp(gap);
    counted = sum_in_warp(counted);
    return counted > 0 ? gap / counted : 0.0;
  }

  // Lets go of columns that cost a row more than its best by more than epsilon.
  __device__ void release(double epsilon) {
    team_.sync();
    for (int i = team_.warp(); i < p_.rows; i += team_.warps()) {
      const int j = peek(s_.col_of_row + i);
      if (j == kNobody) continue;
      const Look l = fresh_look(p_, s_, i, FlatPrices{s_.v});
      __syncwarp();
      if (lane_id() == 0 && p_.at(i, j) - peek(s_.v + j) > l.best + epsilon) {
        s_.col_of_row[i] = s_.row_of_col[j] = kNobody;
      }
    }
  }

  __device__ bool grow_forest() {
    Forest<T> forest(p_, s_, team_, spare_);
    if (forest.grow()) return true;
    for (int i = rank_; i < p_.rows; i += size_) {  // who competes for too few columns
      s_.choice[i] = peek(s_.entered + i) == forest.phase() ? 1 : 0;
    }
    return false;
  }

  // Whether rounding at the scale of the prices may outweigh the answer (assignment/solver.h).  If
  // every row has its least cost, that proves it, and prices become zero.
  __device__ bool prices_dwarf_answer() {
    if (rank_ == 0) {
      control_.minimal = 1;
      control_.greatest_price = 0;
    }
    team_.sync();
    for (int i = rank_; i < p_.rows; i += size_) {
      if (p_.at(i, peek(s_.col_of_row + i)) > peek(s_.least + i)) control_.minimal = 0;
    }
    for (int j = rank_; j < p_.cols; j += size_) {
      const double v = peek(s_.v + j);
      if (v != 0.0) atomicMax(&control_.greatest_price, key_of(v < 0.0 ? -v : v));
    }
    team_.sync();
    const Word greatest = peek(&control_.greatest_price);
    if (greatest == 0) return false;
    if (peek(&control_.minimal) != 0) {
      for (int j = rank_; j < p_.cols; j += size_) s_.v[j] = 0.0;
      standing_.least = true;
      return false;
    }
    double magnitudes = 0.0;  // summed by every warp, in the same order
    for (int i = lane_id(); i < p_.rows; i += kWarp) {
      const double c = p_.at(i, peek(s_.col_of_row + i));
      magnitudes += c < 0.0 ? -c : c;
    }
    magnitudes = sum_in_warp(magnitudes);
    return !(number_of(greatest) * 0x1p-50 <= 1e-10 * magnitudes / p_.rows);
  }

  // A sum of many float64 numbers to about one rounding: the pair's unevaluated sum.
  struct Pair {
    double high = 0.0, low = 0.0;
    __device__ void add(double x) {
      const double sum = high + x, part = sum - high;
      low += (high - (sum - part)) + (x - part);
      high = sum;
    }
    __device__ void join() {  // over the lanes of a warp
      for (int step = kWarp / 2; step > 0; step /= 2) {
        const double other_high = __shfl_xor_sync(kAllLanes, high, step);
        const double other_low = __shfl_xor_sync(kAllLanes, low, step);
        low += other_low;
        add(other_high);
      }
    }
    __device__ double value() const { return low == low ? high + low : high; }
  };

  // Whether row i gains less than its share of a grid by any other assignment, and has all its costs
  // on that grid: see assignment/exactness.h.
  __device__ bool exact_on_a_grid(int i, double u) const {
    const double greatest = number_of(peek(&control_.greatest_price));
    const auto bits = __double_as_longlong(greatest * p_.rows * 0x1p-47);
    const double grid = __longlong_as_double(bits & 0x7ff0000000000000LL), far = 0x1p52 * grid;
    const int col = peek(s_.col_of_row + i);
    const double x = p_.at(i, col) - peek(s_.v + col);
    bool exact = 2.0 * p_.rows * ((x - u) + 0x1p-52 * (x < 0.0 ? -x : x)) < grid;
    for_finite(p_, i, [&](int, double cost) {
      const double near = cost > far ? far : cost < -far ? -far : cost;
      exact &= (near + far) - far == near && (near - far) + far == near;
    });
    return exact;
  }

  // Row duals, exactly min_j (c_ij - v_j); objective and gap; whether the answer stands although its
  // prices dwarf it.
  __device__ void certify(bool dwarfed) {
    for (int i = team_.warp(); i < p_.rows; i += team_.warps()) {
      // Lists of a while ago say nothing at prices that rose to zero.
      const double u = standing_.least ? peek(s_.least + i) : fresh_look(p_, s_, i, FlatPrices{s_.v}).best;
      if (lane_id() == 0) s_.u[i] = u;
      if (dwarfed && !exact_on_a_grid(i, u)) control_.inexact = 1;
    }
    team_.sync();
    if (team_.warp() != 0) return;
    Pair objective, gap;
    for (int i = lane_id(); i < p_.rows; i += kWarp) {
      const int j = peek(s_.col_of_row + i);
      const double cost = p_.at(i, j);
      objective.add(cost);
      gap.add((cost - peek(s_.v + j)) - peek(s_.u + i));
    }
    objective.join();
    gap.join();
    if (lane_id() == 0) {
      control_.report.objective = objective.value();
      control_.report.gap = gap.value();
    }
  }

  const Problem<T>& p_;
  const State& s_;
  Team& team_;
  Control& control_;
  const double* const prices_;
  const int rank_, size_;
  const bool spare_;
  Standing standing_{};
};

}  // namespace bmatch::cuda
