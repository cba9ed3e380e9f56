// One small problem by one warp, the columns in its registers.
//
// Where many problems come at once there is no need to share one out: a warp has no barriers to
// wait at.  Lane l has columns l, l + 32, ...: their prices, their rows, the lengths of paths to
// them.  Prices start at the columns' minima; rows take their best column and push its price down
// to where their second best is (augmenting row reduction); each row that is left looks for a
// shortest path to a free column (Dijkstra over reduced costs): R. Jonker and A. Volgenant,
// Computing 38, 1987.  Where there are spare columns prices start at zero and only those of columns
// that have a row fall, so that the same code is exact.
#pragma once

#include "exactness.h"
#include "totals.h"

namespace bmatch::cuda {

constexpr int kReductionSteps = 3;  // of row reduction, for each row

// A problem's arrays; the matrix too if there is room.
template <typename T>
struct alignas(16) PathArrays {
  double* v;        // [m], at the end
  double* u;        // [n], at the end
  int* col_of_row;  // [n]
  int* trapped;     // [n], 1 if the row competes for too few columns
  T* matrix;        // [n, m] or null

  __host__ __device__ unsigned char* place(unsigned char* from, int n, int m, bool with_matrix) {
    const auto rows = static_cast<std::size_t>(n), cols = static_cast<std::size_t>(m);
    take(from, v, cols);
    take(from, u, rows);
    for (auto** array : {&col_of_row, &trapped}) take(from, *array, rows);
    matrix = nullptr;
    if (with_matrix) take(from, matrix, rows * cols);
    return from;
  }
  static std::size_t bytes(int n, int m, bool with_matrix) {
    return reinterpret_cast<std::size_t>(PathArrays{}.place(nullptr, n, m, with_matrix));
  }
};

// kOfLane: columns of a lane, at most; 32 kOfLane >= p.cols.
template <typename T, int kOfLane>
class WarpPaths {
 public:
  // `prices`: [cols] of a similar square problem, or null.
  __device__ WarpPaths(const Problem<T>& p, const PathArrays<T>& s, const double* prices)
      : p_(p),
        s_(s),
        prices_(p.cols > p.rows ? nullptr : prices),
        rows_(p.rows),
        cols_(p.cols),
        bits_(p.bits),
        lane_(lane_id()),
        costs_(p.cost),
        stride_(p.row_stride) {}

  // Returns the outcome.  Without `certified` there are no row duals and no gap.
  __device__ __forceinline__ int run(Report& report, bool certified) {
    int outcome = start() ? kOptimal : kInvalid;
    if (outcome == kOptimal) reduce_rows();
    for (int i = 0; outcome == kOptimal && i < rows_; ++i) {
      if (s_.col_of_row[i] == kNobody && !find_path(i)) outcome = kInfeasible;
    }
    if (outcome == kOptimal) outcome = certify(certified);
    report_.outcome = outcome;
    report = report_;
    return outcome;
  }

 private:
  __device__ __forceinline__ bool is_square() const { return rows_ == cols_; }
  __device__ __forceinline__ int column(int k) const { return lane_ + k * kWarp; }
  __device__ __forceinline__ double at(int i, int j) const {
    return static_cast<double>(cost_of(Stored<T>::number(costs_[i * stride_ + j]), bits_));
  }
  // The lane's entries of row i, all asked for at once; beyond the last column another stands
  // there.
  __device__ __forceinline__ void load(int i, T (&out)[kOfLane]) const {
    const T* const row = costs_ + i * stride_;
#if !defined(__CUDACC__)
    if (costs_ == p_.cost) host::count_bytes(sizeof(T) * ((cols_ - lane_ + kWarp - 1) / kWarp));
#endif
#pragma unroll
    for (int k = 0; k < kOfLane; ++k) out[k] = row[column(k) < cols_ ? column(k) : 0];
  }
  // Infinite beyond the last column.
  __device__ __forceinline__ double cost(T stored, int k) const {
    const auto x = static_cast<double>(cost_of(Stored<T>::number(stored), bits_));
    return column(k) < cols_ ? x : infinity();
  }
  __device__ __forceinline__ void costs_of(int i, double (&out)[kOfLane]) const {
    T stored[kOfLane];
    new_trip();
    load(i, stored);
#pragma unroll
    for (int k = 0; k < kOfLane; ++k) out[k] = cost(stored[k], k);
  }

  // Brings the matrix near, and sets the prices.  False at a NaN or -infinity.
  __device__ __forceinline__ bool start() {
    bool valid = true;
    double least[kOfLane];
#pragma unroll
    for (int k = 0; k < kOfLane; ++k) {
      least[k] = infinity();
      row_[k] = kNobody;
      u_[k] = 0.0;
    }
    constexpr int kAhead = kOfLane < 8 ? 8 / kOfLane : 1;  // rows
    for (int first = 0; first < rows_; first += kAhead) {
      T stored[kAhead][kOfLane];
      new_trip();
#pragma unroll
      for (int a = 0; a < kAhead; ++a) load(first + a < rows_ ? first + a : first, stored[a]);
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
#pragma unroll
        for (int k = 0; k < kOfLane; ++k) {
          const double x = cost(stored[a][k], k);
          valid &= x > -infinity();
          least[k] = x < least[k] ? x : least[k];
          if (s_.matrix != nullptr && first + a < rows_ && column(k) < cols_) {
            s_.matrix[(first + a) * cols_ + column(k)] = stored[a][k];
          }
        }
      }
    }
    if (s_.matrix != nullptr) {
      costs_ = s_.matrix;
      stride_ = cols_;
    }
    double highest = 0.0;
    if (prices_ != nullptr) {
      highest = -infinity();
      for (int j = lane_; j < cols_; j += kWarp)
        highest = prices_[j] > highest ? prices_[j] : highest;
      highest = -least_in_warp(-highest);
    }
#pragma unroll
    for (int k = 0; k < kOfLane; ++k) {
      if (column(k) >= cols_) {
        v_[k] = 0.0;
      } else if (prices_ != nullptr) {
        v_[k] = prices_[column(k)] - highest;
      } else {
        v_[k] = is_square() && least[k] < infinity() ? least[k] : 0.0;
      }
    }
    for (int i = lane_; i < rows_; i += kWarp) {
      s_.col_of_row[i] = kNobody;
      s_.trapped[i] = 0;
    }
    __syncwarp();
    return __ballot_sync(kAllLanes, !valid) == 0;
  }

  // A column, its row, and the lane that has it.
  struct Column {
    double value;  // infinite: there is none
    int col, row, lane;
  };
  // The least value over the lanes, each with one of its own: among equals a column that is free,
  // then the lowest.
  __device__ __forceinline__ Column least_of(double value, int k, int row) const {
    const Word key = key_of(value + 0.0);  // there is one zero
    const auto high = static_cast<unsigned>(key >> 32);
    unsigned lanes = __ballot_sync(kAllLanes, high == __reduce_min_sync(kAllLanes, high));
    if ((lanes & (lanes - 1)) != 0) {  // several
      const bool in = (lanes >> lane_ & 1) != 0;
      const unsigned low = in ? static_cast<unsigned>(key) : ~0u;
      const unsigned lowest = __reduce_min_sync(kAllLanes, low);
      const bool least = in && low == lowest;
      const unsigned order = (row == kNobody ? 0u : 1u << 31) | static_cast<unsigned>(column(k));
      const unsigned first = __reduce_min_sync(kAllLanes, least ? order : ~0u);
      lanes = __ballot_sync(kAllLanes, least && order == first);
    }
    const int lane = __ffs(static_cast<int>(lanes)) - 1;
    return {__shfl_sync(kAllLanes, value, lane), __shfl_sync(kAllLanes, column(k), lane),
            __shfl_sync(kAllLanes, row, lane), lane};
  }

  __device__ __forceinline__ void reduce_rows() {
    int steps = kReductionSteps * rows_;
    for (int first = 0; first < rows_; ++first) {
      for (int i = first; i != kNobody && steps > 0; --steps) i = take_best(i);
    }
    report_.bidding_rounds = kReductionSteps * rows_ - steps;
    __syncwarp();
    set_row_duals();
  }

  // Row i takes its best column, at the price at which it would as soon have its second best.
  // Returns the row that had it; kNobody too where two are equally good, which paths decide.
  __device__ __forceinline__ int take_best(int i) {
    double costs[kOfLane];
    costs_of(i, costs);
    double best = infinity(), second = infinity(), price = 0.0, own = 0.0;
    int at_k = 0, row = kNobody;
#pragma unroll
    for (int k = 0; k < kOfLane; ++k) {
      const double value = costs[k] - v_[k];
      const bool better = value < best || (value == best && row != kNobody && row_[k] == kNobody);
      second = better ? best : value < second ? value : second;
      at_k = better ? k : at_k;
      row = better ? row_[k] : row;
      price = better ? v_[k] : price;
      own = better ? costs[k] : own;
      best = better ? value : best;
    }
    const Column taken = least_of(best, at_k, row);
    if (!(taken.value < infinity())) return kNobody;
    const bool mine = taken.lane == lane_;
    second = number_of(least_in_warp(key_of((mine ? second : best) + 0.0)));
    // Rounded up, so that the row's best stays its best.
    double lower = own - second;
    if (own - lower > second) lower = up(lower);
    const bool lowers = __ballot_sync(kAllLanes, mine && second < infinity() && lower < price) != 0;
    if (taken.row != kNobody && !lowers) return kNobody;
#pragma unroll
    for (int k = 0; k < kOfLane; ++k) {
      if (!mine || k != at_k) continue;
      row_[k] = i;
      if (lowers && (is_square() || taken.row != kNobody)) v_[k] = lower;
    }
    if (lane_ == 0) {
      s_.col_of_row[i] = taken.col;
      if (taken.row != kNobody) s_.col_of_row[taken.row] = kNobody;
    }
    return taken.row;
  }

  // The next number above.
  __device__ __forceinline__ static double up(double x) {
    const Word key = key_of(x + 0.0);
    return number_of(key + 1);
  }

  // Rows that have a column are tight.
  __device__ __forceinline__ void set_row_duals() {
#pragma unroll
    for (int k = 0; k < kOfLane; ++k) {
      if (row_[k] != kNobody) u_[k] = at(row_[k], column(k)) - v_[k];
    }
  }

  // Gives `root` a column.  False if none can be reached; then rows of the tree are trapped.
  __device__ __forceinline__ bool find_path(int root) {
    report_.forest_phases += 1;
    double dist[kOfLane];
    int pred[kOfLane];
    unsigned closed = 0;  // a bit for each of the lane's columns: the length is final
#pragma unroll
    for (int k = 0; k < kOfLane; ++k) {
      dist[k] = infinity();
      pred[k] = root;
    }
    int i = root;
    double base = 0.0, u = 0.0;
    Column next;
    for (;;) {
      double best = infinity(), best_u = 0.0;
      int at_k = 0, row = kNobody;
      double costs[kOfLane];
      costs_of(i, costs);
#pragma unroll
      for (int k = 0; k < kOfLane; ++k) {
        const double length = base + ((costs[k] - v_[k]) - u);
        const bool open = (closed >> k & 1) == 0, shorter = open && length < dist[k];
        dist[k] = shorter ? length : dist[k];
        pred[k] = shorter ? i : pred[k];
        const bool better =
            open && (dist[k] < best || (dist[k] == best && row != kNobody && row_[k] == kNobody));
        best = better ? dist[k] : best;
        best_u = better ? u_[k] : best_u;
        row = better ? row_[k] : row;
        at_k = better ? k : at_k;
      }
      next = least_of(best, at_k, row);
      if (!(next.value < infinity()) || next.row == kNobody) break;
      report_.forest_rounds += 1;
      if (next.lane == lane_) closed |= 1u << at_k;
      u = __shfl_sync(kAllLanes, best_u, next.lane);
      base = next.value;
      i = next.row;
    }
    if (!(next.value < infinity())) {
#pragma unroll
      for (int k = 0; k < kOfLane; ++k) {
        if ((closed >> k & 1) != 0) s_.trapped[row_[k]] = 1;
      }
      if (lane_ == 0) s_.trapped[root] = 1;
      __syncwarp();
      return false;
    }
#pragma unroll
    for (int k = 0; k < kOfLane; ++k) {
      if ((closed >> k & 1) != 0) v_[k] += dist[k] - next.value;
    }
    for (int j = next.col; j != kNobody;) {
      const int row = of_column(pred, j), given_up = s_.col_of_row[row];
#pragma unroll
      for (int k = 0; k < kOfLane; ++k) {
        if (column(k) == j) row_[k] = row;
      }
      __syncwarp();
      if (lane_ == 0) s_.col_of_row[row] = j;
      __syncwarp();
      j = given_up;
    }
    set_row_duals();
    return true;
  }

  // What the lane that has column j has of it.
  __device__ __forceinline__ static int of_column(const int (&array)[kOfLane], int j) {
    int found = kNobody;
#pragma unroll
    for (int k = 0; k < kOfLane; ++k) {  // no choice before it is known: registers have no index
      const int there = __shfl_sync(kAllLanes, array[k], j % kWarp);
      found = j / kWarp == k ? there : found;
    }
    return found;
  }

  // Whether every row has its least cost.
  __device__ __forceinline__ bool all_least() const {
    bool all = true;
    for (int i = 0; all && i < rows_; ++i) {
      double costs[kOfLane], least = infinity();
      costs_of(i, costs);
#pragma unroll
      for (int k = 0; k < kOfLane; ++k) least = costs[k] < least ? costs[k] : least;
      all = !(at(i, s_.col_of_row[i]) > least_in_warp(least));
    }
    return all;
  }

  // Row duals, exactly min_j (c_ij - v_j); objective and gap; whether the answer stands.
  __device__ __forceinline__ int certify(bool certified) {
    double greatest = 0.0;
#pragma unroll
    for (int k = 0; k < kOfLane; ++k) {
      const double magnitude = v_[k] < 0.0 ? -v_[k] : v_[k];
      greatest = magnitude > greatest ? magnitude : greatest;
    }
    greatest = -least_in_warp(-greatest);
    double magnitudes = 0.0;
    TwoSum objective, gap;
    for (int i = lane_; i < rows_; i += kWarp) {
      const double x = at(i, s_.col_of_row[i]);
      magnitudes += x < 0.0 ? -x : x;
      objective.add(x);
    }
    magnitudes = sum_in_warp(magnitudes);
    objective.join();
    bool dwarfed = greatest > 0.0 && prices_dwarf(greatest, magnitudes, rows_);
    if (dwarfed && all_least()) {  // that proves it, and prices are zero
#pragma unroll
      for (int k = 0; k < kOfLane; ++k) v_[k] = 0.0;
      dwarfed = false;
    }
#pragma unroll
    for (int k = 0; k < kOfLane; ++k) {
      if (column(k) < cols_) s_.v[column(k)] = v_[k];
    }
    __syncwarp();
    report_.objective = objective.value();
    report_.gap = not_a_number();
    if (!certified && !dwarfed) return kOptimal;
    bool exact = true;
    for (int i = 0; i < rows_; ++i) {
      double costs[kOfLane], u = infinity();
      costs_of(i, costs);
#pragma unroll
      for (int k = 0; k < kOfLane; ++k) {
        const double value = costs[k] - v_[k];
        u = value < u ? value : u;
      }
      u = number_of(least_in_warp(key_of(u + 0.0)));
      const int j = s_.col_of_row[i];
      const double reduced = at(i, j) - s_.v[j];
      if (dwarfed) exact &= exact_on_a_grid(p_, i, reduced, u, greatest);
      if (lane_ == 0) {
        s_.u[i] = u;
        gap.add(reduced - u);
      }
    }
    gap.join();
    report_.gap = gap.value();
    __syncwarp();
    return dwarfed && __ballot_sync(kAllLanes, !exact) != 0 ? kDwarfed : kOptimal;
  }

  const Problem<T>& p_;
  const PathArrays<T>& s_;
  const double* const prices_;
  const int rows_, cols_;
  const CostBits<typename Stored<T>::Number> bits_;
  const int lane_;
  const T* costs_;  // where the matrix is read from
  long long stride_;
  double v_[kOfLane], u_[kOfLane];  // of the lane's columns: prices, and duals of their rows
  int row_[kOfLane];                // kNobody while free
  Report report_{};
};

}  // namespace bmatch::cuda
