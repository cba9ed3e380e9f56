// The CUDA solver, run on the CPU by fibers, for Python tests: what bmatch/_core has for devices.
#include <cuda_runtime.h>

#include "cuda/solver.h"

using namespace bmatch;

namespace {

struct Arguments {
  std::uint64_t cost, prices;
  std::int64_t problems, rows, cols, problem_stride, row_stride;
  std::int32_t type, sense, team, unused;
};

cuda::Task task_of(const Arguments& a) {
  return {reinterpret_cast<const void*>(a.cost), static_cast<cuda::Type>(a.type), a.problems, a.rows,
          a.cols, a.problem_stride, a.row_stride, static_cast<Sense>(a.sense),
          reinterpret_cast<const double*>(a.prices)};
}

}  // namespace

extern "C" void seed(std::uint64_t value) { host::seed(value); }

extern "C" std::uint64_t workspace_bytes(const Arguments* a) {
  return cuda::workspace_bytes(task_of(*a), static_cast<cuda::TeamKind>(a->team), 0);
}

extern "C" void solve(const Arguments* a, std::int64_t* col_of_row, double* u, double* v,
                      void* reports, void* workspace) {
  cuda::solve(task_of(*a), static_cast<cuda::TeamKind>(a->team),
              {col_of_row, u, v, static_cast<cuda::Report*>(reports)}, workspace, 0, nullptr);
}
