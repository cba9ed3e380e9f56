// One small problem by one warp: plain shortest augmenting paths, a column a lane.
//
// Where thousands of small problems come at once there is no need to share one out: a warp has no
// barriers to wait at, its arrays lie in shared memory and the matrix in the first cache.  Rows
// take their best column, one that is free if several are best; each row that is left then looks
// for a shortest path to a free column (Dijkstra over reduced costs, as in R. Jonker and A.
// Volgenant, Computing 38, 1987).  Prices start at zero and only fall, and only those of columns
// that have a row, so the same code is exact for spare columns.
#pragma once

#include "exactness.h"
#include "totals.h"

namespace bmatch::cuda {

// Arrays over rows [n] and columns [m] of one problem.
struct alignas(16) PathArrays {
  double* v;        // [m]
  Word* dist;       // [m], key of the shortest length found from the root
  double* u;        // [n]
  int* row_of_col;  // [m], kNobody while free
  int* pred;        // [m], row from which the column is reached
  int* closed;      // [m], number of the path for which the length became final
  int* col_of_row;  // [n]
  int* trapped;     // [n], 1 if the row competes for too few columns

  __host__ __device__ unsigned char* place(unsigned char* from, int n, int m) {
    const auto rows = static_cast<std::size_t>(n), cols = static_cast<std::size_t>(m);
    take(from, v, cols);
    take(from, dist, cols);
    take(from, u, rows);
    for (auto** array : {&row_of_col, &pred, &closed}) take(from, *array, cols);
    for (auto** array : {&col_of_row, &trapped}) take(from, *array, rows);
    return from;
  }
  static std::size_t bytes(int n, int m) {
    return reinterpret_cast<std::size_t>(PathArrays{}.place(nullptr, n, m));
  }
};

template <typename T>
class WarpPaths {
 public:
  // `prices`: [cols] of a similar square problem, or null.
  __device__ WarpPaths(const Problem<T>& p, const PathArrays& s, const double* prices)
      : p_(p), s_(s), prices_(p.cols > p.rows ? nullptr : prices), lane_(lane_id()) {}

  // Returns the outcome.
  __device__ int run(Report& report) {
    start();
    bool valid = true;
    for (int i = 0; i < p_.rows; ++i) {
      const Nearest best = best_of(i, valid);
      if (best.key == kUnreached || best.occupied) continue;
      __syncwarp();
      if (lane_ == 0) {
        s_.row_of_col[best.col] = i;
        s_.col_of_row[i] = best.col;
      }
      __syncwarp();
    }
    int outcome = kOptimal;
    if (__ballot_sync(kAllLanes, !valid) != 0) outcome = kInvalid;
    for (int i = 0; outcome == kOptimal && i < p_.rows; ++i) {
      if (s_.col_of_row[i] == kNobody && !find_path(i)) outcome = kInfeasible;
    }
    if (outcome == kOptimal) outcome = certify();
    report_.outcome = outcome;
    report = report_;
    return outcome;
  }

 private:
  // The nearest column of several: among equals one that is free, then the lowest.
  struct Nearest {
    Word key = kUnreached;
    int col = kNobody;
    bool occupied = false;

    __device__ void take(Word other_key, int other_col, bool other_occupied) {
      if (other_key < key ||
          (other_key == key && key != kUnreached && occupied && !other_occupied)) {
        *this = {other_key, other_col, other_occupied};
      }
    }
    __device__ void join() {  // over the lanes
      const Word least = least_in_warp(key);
      const unsigned mine = (occupied ? 1u << 31 : 0u) | static_cast<unsigned>(col);
      const unsigned first = __reduce_min_sync(kAllLanes, key == least ? mine : ~0u);
      *this = {least, static_cast<int>(first & 0x7fffffffu), first >> 31 != 0};
    }
  };

  __device__ void start() {
    double highest = -infinity();
    if (prices_ != nullptr) {
      for (int j = lane_; j < p_.cols; j += kWarp)
        highest = prices_[j] > highest ? prices_[j] : highest;
      highest = -least_in_warp(-highest);
    }
    for (int j = lane_; j < p_.cols; j += kWarp) {
      s_.v[j] = prices_ == nullptr ? 0.0 : prices_[j] - highest;
      s_.row_of_col[j] = kNobody;
      s_.closed[j] = 0;
    }
    for (int i = lane_; i < p_.rows; i += kWarp) {
      s_.col_of_row[i] = kNobody;
      s_.trapped[i] = 0;
    }
    __syncwarp();
  }

  // The best column of row i at the present prices.  `valid` becomes false at a NaN or -infinity.
  __device__ Nearest best_of(int i, bool& valid) const {
    Nearest best;
#pragma unroll 2
    for (int j = lane_; j < p_.cols; j += kWarp) {
      if (j / kWarp % 2 == 0) new_trip(s_.v);  // as often as the loop is unrolled
      const double cost = p_.at(i, j);
      valid &= cost > -infinity();
      if (!(cost < infinity())) continue;
      best.take(key_of(cost - s_.v[j] + 0.0), j, s_.row_of_col[j] != kNobody);
    }
    best.join();
    return best;
  }

  // Gives `root` a column.  False if none can be reached; then rows of the tree are trapped.
  __device__ bool find_path(int root) {
    ++path_;
    report_.forest_phases += 1;
    int i = root;
    double base = 0.0, u = 0.0;
    Nearest next;
    for (bool first = true;; first = false) {
      next = {};
#pragma unroll 2
      for (int j = lane_; j < p_.cols; j += kWarp) {
        if (j / kWarp % 2 == 0) new_trip(s_.v);
        const double cost = p_.at(i, j);
        if (s_.closed[j] == path_) continue;
        const double length = base + ((cost - s_.v[j]) - u);
        const Word key = cost < infinity() ? key_of(length + 0.0) : kUnreached;
        const Word before = first ? kUnreached : s_.dist[j];
        if (first || key < before) {
          s_.dist[j] = key;
          s_.pred[j] = i;
        }
        next.take(key < before ? key : before, j, s_.row_of_col[j] != kNobody);
      }
      next.join();
      if (next.key == kUnreached || !next.occupied) break;
      report_.forest_rounds += 1;
      if (next.col % kWarp == lane_) s_.closed[next.col] = path_;
      new_trip(s_.row_of_col);
      i = s_.row_of_col[next.col];
      new_trip(s_.v);
      base = number_of(next.key);
      u = p_.at(i, next.col) - s_.v[next.col];  // rows that have a column are tight
    }
    if (next.key == kUnreached) {
      for (int j = lane_; j < p_.cols; j += kWarp) {
        if (s_.closed[j] == path_) s_.trapped[s_.row_of_col[j]] = 1;
      }
      if (lane_ == 0) s_.trapped[root] = 1;
      __syncwarp();
      return false;
    }
    __syncwarp();
    const double length = number_of(next.key);
    for (int j = lane_; j < p_.cols; j += kWarp) {
      if (s_.closed[j] == path_) s_.v[j] += number_of(s_.dist[j]) - length;
    }
    if (lane_ == 0) {
      for (int j = next.col; j != kNobody;) {
        const int row = s_.pred[j], given_up = s_.col_of_row[row];
        s_.row_of_col[j] = row;
        s_.col_of_row[row] = j;
        j = given_up;
      }
    }
    __syncwarp();
    return true;
  }

  // Whether every row has its least cost.
  __device__ bool all_least() const {
    bool all = true;
    for (int i = 0; all && i < p_.rows; ++i) {
      double least = infinity();
      for (int j = lane_; j < p_.cols; j += kWarp) {
        const double cost = p_.at(i, j);
        least = cost < least ? cost : least;
      }
      all = !(p_.at(i, s_.col_of_row[i]) > least_in_warp(least));
    }
    return all;
  }

  // Row duals, exactly min_j (c_ij - v_j); objective and gap; whether the answer stands.
  __device__ int certify() {
    double greatest = 0.0;
    for (int j = lane_; j < p_.cols; j += kWarp) {
      const double v = s_.v[j];
      greatest = v < -greatest ? -v : greatest;
    }
    greatest = -least_in_warp(-greatest);
    double magnitudes = 0.0;
    TwoSum objective, gap;
    for (int i = lane_; i < p_.rows; i += kWarp) {
      const double cost = p_.at(i, s_.col_of_row[i]);
      magnitudes += cost < 0.0 ? -cost : cost;
      objective.add(cost);
    }
    magnitudes = sum_in_warp(magnitudes);
    objective.join();
    bool dwarfed = greatest > 0.0 && prices_dwarf(greatest, magnitudes, p_.rows);
    if (dwarfed && all_least()) {  // that proves it, and prices are zero
      for (int j = lane_; j < p_.cols; j += kWarp) s_.v[j] = 0.0;
      dwarfed = false;
      __syncwarp();
    }
    bool valid = true, exact = true;
    for (int i = 0; i < p_.rows; ++i) {
      const double u = number_of(best_of(i, valid).key);
      const int j = s_.col_of_row[i];
      const double reduced = p_.at(i, j) - s_.v[j];
      if (dwarfed) exact &= exact_on_a_grid(p_, i, reduced, u, greatest);
      if (lane_ == 0) {
        s_.u[i] = u;
        gap.add(reduced - u);
      }
    }
    gap.join();
    report_.objective = objective.value();
    report_.gap = gap.value();
    __syncwarp();
    return dwarfed && __ballot_sync(kAllLanes, !exact) != 0 ? kDwarfed : kOptimal;
  }

  const Problem<T>& p_;
  const PathArrays& s_;
  const double* const prices_;
  const int lane_;
  int path_ = 0;
  Report report_{};
};

}  // namespace bmatch::cuda
