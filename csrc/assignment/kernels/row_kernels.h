// The inner loops of the solver, one table of functions for each instruction set.
//
// A table is compiled in a file of its own (avx512.cpp, avx2.cpp, portable.cpp) and found at run
// time by row_kernels().  Every table gives the same answers to the last bit: minima do not depend
// on the order in which they are taken, and ties go to the lowest column.
//
// A row is contiguous, [cols].  Prices and path states are float64 arrays padded to a
// multiple of kPad, so that only the matrix itself needs care at the end of a row.
#pragma once

#include <cstdint>
#include <limits>
#include <tuple>
#include <variant>

#include "assignment/rows/cost_view.h"
#include "assignment/rows/stored_types.h"
#include "assignment/matching.h"

namespace bmatch {

// Rows that are scanned together: that many streams keep the memory busy.
constexpr int kGroup = 4;
template <typename T>
struct RowGroup {
  int count;
  const T* row[kGroup];
  Index index[kGroup];     // in the matrix
  const T* ahead[kGroup];  // what is likely to be read next, in place of each
};
// Doubles that `cells` of a scan must have room for.
inline std::int64_t cell_room(Index cols) { return cols / 2 + 64; }

// The two smallest costs of a row, prices at zero.  `col` is the lowest column with the smallest.
struct RowMinima {
  double best = std::numeric_limits<double>::infinity();
  double second = std::numeric_limits<double>::infinity();
  Index col = kNone;
  bool valid = true;  // no NaN, no -infinity in the row, nor NaN in the rows scanned with it
};

// The two smallest values of c_j - v_j, and the smallest over free columns alone.
struct BestTwo {
  double best = std::numeric_limits<double>::infinity();
  double second = std::numeric_limits<double>::infinity();
  double best_free = std::numeric_limits<double>::infinity();
  Index col = kNone, free_col = kNone;  // lowest columns that attain them
};

// The smallest value of c_j - v_j, and the lowest free column that attains it, or kNone.
struct Claim {
  double best = std::numeric_limits<double>::infinity();
  Index free_col = kNone;
  bool valid = true;  // no NaN, no -infinity
};

// Candidates of a row: its cheapest columns at the prices of the scan, padded with columns 0 at
// infinite cost to a multiple of 8.  Every column that is not listed has c_j - v_j >= bound.
constexpr int kListCapacity = 32;
struct CandidateRow {
  double* cost;  // [kListCapacity]
  Index* col;    // [kListCapacity]
  int size = 0;
  double bound = -std::numeric_limits<double>::infinity();
  bool valid = true;  // as in RowMinima; set by scans at price zero
};

// The greatest cost of a row, and the greatest price.
struct Greatest {
  double cost = -std::numeric_limits<double>::infinity();
  double price = -std::numeric_limits<double>::infinity();
};

// Column prices as a scan reads them.  Null `v` stands for zero.
struct PriceView {
  const double* v = nullptr;       // [padded]
  const float* rounded = nullptr;  // [padded], v in float32
  double magnitude = 0.0;          // at least max |v|
};

// One shortest-path search over all columns.
struct PathState {
  double* price;             // [padded]; -infinity on settled columns and on the padding
  double* distance;          // [padded]; infinity on free and on settled columns
  Index* predecessor;        // [padded]
  const std::uint8_t* free;  // [padded / 8], one bit a column
  double free_distance;      // of the nearest free column reached
  Index free_col;
  double open_distance;  // of the nearest column in `distance`
  Index open_col;
};

template <typename T>
struct RowScans {
  void (*minima)(const RowGroup<T>& rows, Index cols, CostBits<T> bits, double* cells,
                 RowMinima* out);
  void (*candidates)(const RowGroup<T>& rows, Index cols, CostBits<T> bits, PriceView prices,
                     double* cells, CandidateRow* out);
  BestTwo (*best_two)(const T* row, Index cols, CostBits<T> bits, const double* v,
                      const std::uint8_t* free);
  Claim (*claim)(const T* row, Index cols, CostBits<T> bits, const double* v,
                 const std::uint8_t* free);
  // Whether a good part of a sample of the row is `least`.
  bool (*is_plateau)(const T* row, Index cols, CostBits<T> bits, double least);
  // Distances through a row: base + (c_j - price_j) where that is less than what is known.
  void (*relax)(const T* row, Index cols, CostBits<T> bits, Index i, double base, PathState& state);
  // least_j = min(least_j, c_j - u).
  void (*lower)(const T* row, Index cols, CostBits<T> bits, double u, double* least);
  Greatest (*greatest)(const T* row, Index cols, CostBits<T> bits, const double* v);
  // A value that at least so many c_j - v_j do not exceed, a few times as many as a rule; `wanted`
  // is a multiple of 8, and `least` has room for as many.
  double (*exceeded_by_most)(const T* row, Index cols, CostBits<T> bits, const double* v,
                             Index wanted, double* least);
  // Lists the columns where c_j - v_j, or c_j without prices, is below a limit, ascending; up to 8
  // more than `most` of them, and then no more.  Returns how many.
  Index (*below)(const T* row, Index cols, CostBits<T> bits, const double* v, double limit,
                 Index most, double* cost, Index* col);
  // The least rounding error of those c_j - v_j that are u, or infinity if none is.
  double (*least_error)(const T* row, Index cols, CostBits<T> bits, const double* v, double u);
  // Whether all finite costs are multiples of `grid`, a power of two.
  bool (*on_grid)(const T* row, Index cols, CostBits<T> bits, double grid);
};

// The rows of a small matrix, as they are stored, or copied: then an entry is a cost.  Each is read
// in whole blocks of 8: behind a row there is memory that may be read, and holds no NaN.
template <typename T, bool stored>
struct SmallRows {
  const T* first;
  std::int64_t pitch;  // from one to the next
  const T* last;       // copied, where nothing may be read behind it
  CostBits<T> bits;

  const T* row(Index i, Index rows) const {
    return stored && i + 1 == rows ? last : first + i * pitch;
  }
  double cost(Index i, Index j, Index rows) const { return bits(row(i, rows)[j]); }
};
using CopiedRows = SmallRows<double, false>;

// A small matrix and all that is needed to solve it; see small.h.
struct SmallProblem {
  struct Settled {
    Index col;
    double distance, price;
  };
  Index rows, cols, stride;  // stride: columns filled up to a multiple of 8
  std::variant<CopiedRows, SmallRows<double, true>, SmallRows<float, true>> costs;
  double* copy;                     // [rows, stride], of the costs, where there is one
  double* minimum;                  // [rows]
  double *price, *distance;         // [stride]
  Settled* settled;                 // [rows]
  Index *col_of_row, *free_rows;    // [rows]
  Index *row_of_col, *predecessor;  // [stride]
  std::uint8_t* free;               // [stride / 8], a bit a column
  bool may_pause;                   // with Step::budget_spent
  bool may_hand_on;                 // likewise, but before rows bid only
  bool crowded;                     // it did since too many rows were free before they bid
  std::int64_t most_reads;          // of rows by paths, before it pauses
  Index free_count, waiting;        // rows at the beginning and at the end of free_rows
  Index flat;                       // of those waiting, the ones that want all columns alike
  std::int64_t bids = 0, augmentations = 0, reads = 0;
  Index trapped_from = kNone, settled_count = 0;  // after Step::infeasible

  double cost(Index i, Index j) const {
    return std::visit([&](const auto& of) { return of.cost(i, j, rows); }, costs);
  }
};

// The stages of small.h.  The answer is in col_of_row, row_of_col and price.
struct SmallKernels {
  // Find the minima of rows, each of which claims its column at once, and read costs where they
  // are, except for the last row, [stride].  Return how many rows were seen: all, or less where it
  // is not worth while, or where a cost is NaN or -infinity.
  Index (*read_f32)(const CostView<float>& view, float* last, SmallProblem& problem);
  Index (*read_f64)(const CostView<double>& view, double* last, SmallProblem& problem);
  // The same for the rows that were not seen, with a copy of all; false if a cost is NaN or
  // -infinity.
  bool (*copy_f32)(const CostView<float>& view, Index seen, SmallProblem& problem);
  bool (*copy_f64)(const CostView<double>& view, Index seen, SmallProblem& problem);
  void (*claim)(SmallProblem& problem);
  Step (*start)(SmallProblem& problem);                     // after claims
  Step (*resume)(SmallProblem& problem);                    // from a matching and prices
  void (*row_duals)(SmallProblem& problem, double* duals);  // [rows]
  bool (*least_prices)(SmallProblem& problem);  // that prove the answer; whether it found them
  // A copy of the costs, and minima, with columns as rows.
  void (*turn)(const SmallProblem& problem, SmallProblem& turned);
};

// Widens [cols] numbers.
template <typename T>
using Widen = void (*)(const T* row, Index cols, Wide<T>* out);
using WidenKernels = std::tuple<Widen<Half>, Widen<Bfloat16>, Widen<Boolean>, Widen<std::int8_t>,
                                Widen<std::uint8_t>, Widen<std::int16_t>, Widen<std::uint16_t>,
                                Widen<std::int32_t>, Widen<std::uint32_t>>;

struct TwoLeast {
  double first, second;
};

struct ListBest {
  double best, second;
  Index col;
};

struct RowKernels {
  RowScans<float> f32;
  RowScans<double> f64;
  // Best two of cost_k - v[col_k], k < size (a multiple of 8).
  ListBest (*list_best)(const double* cost, const Index* col, int size, const double* v);
  // Bits k < size <= 32 where base + (cost_k - v[col_k]) < min(distance[col_k], limit).
  std::uint32_t (*nearer)(const double* cost, const Index* col, int size, double base,
                          const double* v, const double* distance, double limit);
  SmallKernels small;
  WidenKernels widen;

  template <typename T>
  const RowScans<T>& scans() const {
    if constexpr (sizeof(T) == 4)
      return f32;
    else
      return f64;
  }
  template <typename T>
  Widen<T> widening() const {
    return std::get<Widen<T>>(widen);
  }
};

// The table of the instruction set in use (instruction_set.h).
const RowKernels& row_kernels();

}  // namespace bmatch
