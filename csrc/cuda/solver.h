// The assignment solver on a CUDA device, for callers without CUDA headers.
//
// Matrices, workspace and answers lie on the device; nothing here waits for it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "assignment/cost_view.h"

namespace bmatch::cuda {

enum class Type : int { float32, float64, float16, bfloat16 };

enum Outcome : int { kOptimal = 0, kInfeasible = 1, kInvalid = 2, kBroken = 3 };

// What a solve has to say beside the assignment.
struct Report {
  std::int32_t outcome;
  std::int32_t bidding_rounds, forest_phases, forest_rounds, rescans, whole_rows;
  double objective, gap;  // of the minimised costs
};

// Problems of one shape, rows <= cols; strides count entries, those of a row lie side by side.
struct Task {
  const void* cost;
  Type type;
  std::int64_t problems, rows, cols, problem_stride, row_stride;
  Sense sense;
};

struct Answer {
  std::int64_t* col_of_row;  // [problems, rows]
  double* u;                 // [problems, rows] or null
  double* v;                 // [problems, cols] or null
  Report* reports;           // [problems]
};

// Which threads solve one problem together.
enum class TeamKind : int { warp, block, grid };

// Bytes of workspace that `solve` takes for such a task on a device.
std::size_t workspace_bytes(const Task& task, TeamKind team, int device);

// Puts the solve on a stream.  If a problem is infeasible, its col_of_row holds -2 for rows that
// compete for fewer columns, else -1.  Throws std::runtime_error with the kernel's name.
void solve(const Task& task, TeamKind team, const Answer& answer, void* workspace, int device,
           void* stream);

}  // namespace bmatch::cuda
