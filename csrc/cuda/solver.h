// The assignment solver on a CUDA device, for callers without CUDA headers.
//
// Matrices, workspace and answers lie on the device; nothing here waits for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "assignment/rows/cost_view.h"

namespace bmatch::cuda {

enum class Type : int { float32, float64, float16, bfloat16 };

// kInvalid: a cost is NaN or -infinity.  kDwarfed: an answer, but rounding at the scale of its
// prices may outweigh it (assignment/solver.h).  kCostly: none for as much work as it may take. The
// host has other ways for both.
enum Outcome : int {
  kOptimal = 0,
  kInfeasible = 1,
  kInvalid = 2,
  kDwarfed = 3,
  kBroken = 4,
  kCostly = 5
};

// What a solve has to say beside the assignment.
struct Report {
  std::int32_t outcome;
  std::int32_t bidding_rounds, forest_phases, forest_rounds, rescans, whole_rows;
  double objective, gap;  // of the minimised costs
};

// Problems of one shape, or smaller ones padded to it, rows <= cols of each; strides count entries,
// those of a row lie side by side.
struct Task {
  const void* cost;
  Type type;
  std::int64_t problems, rows, cols, problem_stride, row_stride;
  Sense sense;
  const double* prices = nullptr;  // [cols], column duals of a similar square problem: a start
  // [problems, 2] on the device, rows and columns of each problem, at least 1; null: all alike.
  // Padding is not read.  The answer for a padded row is -1, and for padding's duals NaN.
  const std::int32_t* sizes = nullptr;
  std::int32_t most_work = 0;  // of each problem, in rounds of the forest (forest.h); 0: no limit
};

struct Answer {
  std::int64_t* col_of_row;  // [problems, rows]
  double* u;                 // [problems, rows] or null
  double* v;                 // [problems, cols] or null
  Report* reports;           // [problems]
};

// Which threads solve one problem together: of a warp, of a block, of the whole device.
enum class TeamKind : int { warp, block, grid };

// What this build and this machine have.
struct Facts {
  bool built;            // with a CUDA compiler
  const char* compiled;  // for which devices, and by which toolkit
  int driver;            // its CUDA version, 1000 major + 10 minor; 0 without a driver
  int devices;
  std::string trouble;  // why no device can be used, or empty
};
Facts facts();

// Bytes of workspace that `solve` takes for such a task on a device.
std::size_t workspace_bytes(const Task& task, TeamKind team, int device);

// In col_of_row of an infeasible problem: a row that competes with others for fewer columns.  The
// other rows have -1.
constexpr std::int64_t kTrapped = -2;

// Puts the solve on a stream.  Throws std::runtime_error with the kernel's name.
void solve(const Task& task, TeamKind team, const Answer& answer, void* workspace, int device,
           void* stream);

}  // namespace bmatch::cuda
