// One assignment problem on the device, and all the memory that its solution takes.
#pragma once

#include <cstddef>

#include "device.h"
#include "solver.h"

namespace bmatch::cuda {

// rows <= cols; rows lie row_stride entries apart, the entries of a row side by side.
template <typename T>
struct Problem {
  const T* cost;
  int rows, cols;
  long long row_stride;
  CostBits<typename Stored<T>::Number> bits;
  bool in_fours;  // every four entries of a row from its first on lie as a vector may be read

  __device__ const T* row(int i) const { return cost + i * row_stride; }
  __device__ double at(int i, int j) const {
#if !defined(__CUDACC__)
    host::count_bytes(sizeof(T));
#endif
    return static_cast<double>(cost_of(Stored<T>::number(row(i)[j]), bits));
  }
};

constexpr int kListRoom = kWarp;  // entries of a candidate list: one a lane
constexpr int kQueues = 3;        // of a round: filled, worked on, recorded

// Counters that a whole team shares.  Those in threes or fours take turns from round to round, so
// that one can be cleared while others still read the last.
struct Control {
  unsigned arrivals;                           // at the grid's barriers
  int invalid, broken, inexact, uneven, dear;  // flags
  int free_rows;
  int alive[3], waiting[3], slots[2];
  int queued[kQueues];
  int sources, free_cols, tree, lowest_source;
  Word nearest, reach[2];
  Word fence_low[3], fence_high[3];
  Word highest_price, greatest_price;
  Report report;
};

// The next array in some memory; `from` moves to its end.
template <typename T>
__host__ __device__ void take(unsigned char*& from, T*& array, std::size_t count) {
  array = reinterpret_cast<T*>(from);
  from += (count * sizeof(T) + 15) / 16 * 16;
}

// Arrays over rows [n] and columns [m].  Lists are large; a team within one block has all of this
// in shared memory, or all but the lists, where there is room.
struct alignas(16) State {
  Control* control;
  // candidate lists: c_ij - v_j >= bound_i for every column j that is not listed
  void* list_cost;           // [n, kListRoom] of the costs' Number, infinite where unused
  std::uint16_t* short_col;  // [n, kListRoom], column 0 where unused; null if there are too many
  int* long_col;             // [n, kListRoom], if so
  double* bound;             // [n]
  // the matching and its duals
  double* v;        // [m]
  double* u;        // [n]
  double* least;    // [n], the row's least cost: u at price zero
  int* col_of_row;  // [n], kNobody while free
  int* row_of_col;  // [m], kNobody while free
  // bidding: words of price and row; afterwards labels of the forest; two that take turns
  Word* words[2];    // [m]
  int* slot_row[2];  // [n], kNobody where there is nothing to do
  int* slot_bid;     // [n], column of the bid under way
  // the forest
  Word* pred;            // [m], who labelled the column
  int* stamp[2];         // [m], round in which the label fell
  Word* queue[kQueues];  // [m], columns whose labels fell, and their rows
  double* base[2];       // [n], label from which a row was relaxed
  int* relaxed[2];       // [n], in which round
  double* slack;         // [n], from the best to the list's bound
  int* entered;          // [n], phase in which u and slack were taken
  double* fence_base;    // [n], the row's label when nothing fell
  Word* fence;           // [n], below it the row has told all
  double* whole_base;    // [n], label from which the whole row was relaxed
  int* tree;             // [n], rows that have entered
  int* sources;          // [n], free rows
  int* free_cols;        // [m]
  int* root;             // [m], of the tree that labelled free_cols[k]
  int* choice;           // [n], lowest free column of a root's tree

  // Lists of m columns and of costs of so many bytes from `from` on; returns their end.
  __host__ __device__ unsigned char* place_lists(unsigned char* from, int n, int m,
                                                 int number_bytes) {
    const std::size_t entries = static_cast<std::size_t>(n) * kListRoom;
    unsigned char* costs = nullptr;
    take(from, costs, entries * number_bytes);
    list_cost = costs;
    short_col = nullptr;
    long_col = nullptr;
    if (m <= 0x10000) {
      take(from, short_col, entries);
    } else {
      take(from, long_col, entries);
    }
    return from;
  }
  // All else, likewise.
  __host__ __device__ unsigned char* place_rest(unsigned char* from, int n, int m) {
    const auto rows = static_cast<std::size_t>(n), cols = static_cast<std::size_t>(m);
    take(from, control, 1);
    for (auto** array :
         {&bound, &u, &least, &slack, &fence_base, &whole_base, &base[0], &base[1]}) {
      take(from, *array, rows);
    }
    take(from, fence, rows);
    take(from, v, cols);
    for (auto** array : {&words[0], &words[1], &pred}) take(from, *array, cols);
    for (auto** array : {&col_of_row, &slot_row[0], &slot_row[1], &slot_bid, &relaxed[0],
                         &relaxed[1], &entered, &tree, &sources, &choice}) {
      take(from, *array, rows);
    }
    for (auto** array : {&row_of_col, &stamp[0], &stamp[1], &free_cols, &root})
      take(from, *array, cols);
    for (auto*& array : queue) take(from, array, cols);
    return from;
  }
  static std::size_t list_bytes(int n, int m, int number_bytes) {
    return reinterpret_cast<std::size_t>(State{}.place_lists(nullptr, n, m, number_bytes));
  }
  static std::size_t rest_bytes(int n, int m) {
    return reinterpret_cast<std::size_t>(State{}.place_rest(nullptr, n, m));
  }
};

}  // namespace bmatch::cuda
