// The CUDA solver, run on the CPU by fibers, for Python: what bmatch/_core has for devices, and
// what the solves would wait for on one.
#include <algorithm>
#include <cuda_runtime.h>
#include <iterator>

#include "cuda/solver.h"

using namespace bmatch;

namespace {

struct Arguments {
  std::uint64_t cost, prices, sizes;
  std::int64_t problems, rows, cols, problem_stride, row_stride;
  std::int32_t type, sense, team, most_work;
};

cuda::Task task_of(const Arguments& a) {
  return {reinterpret_cast<const void*>(a.cost),
          static_cast<cuda::Type>(a.type),
          a.problems,
          a.rows,
          a.cols,
          a.problem_stride,
          a.row_stride,
          static_cast<Sense>(a.sense),
          reinterpret_cast<const double*>(a.prices),
          reinterpret_cast<const std::int32_t*>(a.sizes),
          a.most_work};
}

}  // namespace

extern "C" void play(std::uint32_t resident_blocks, std::uint64_t shared_bytes) {
  host::device() = {resident_blocks, shared_bytes};
}

// Barriers, trips to the second cache and to shared memory, collectives, bytes of the matrix since
// the last call.
extern "C" void spent(std::uint64_t* five) {
  const host::Costs& c = host::costs();
  const std::uint64_t all[] = {c.barriers, c.far_trips, c.near_trips, c.collectives, c.bytes};
  std::copy(std::begin(all), std::end(all), five);
  host::costs() = {};
}

extern "C" void seed(std::uint64_t value) { host::seed(value); }

extern "C" std::uint64_t workspace_bytes(const Arguments* a) {
  return cuda::workspace_bytes(task_of(*a), static_cast<cuda::TeamKind>(a->team), 0);
}

extern "C" void solve(const Arguments* a, std::int64_t* col_of_row, double* u, double* v,
                      void* reports, void* workspace) {
  cuda::solve(task_of(*a), static_cast<cuda::TeamKind>(a->team),
              {col_of_row, u, v, static_cast<cuda::Report*>(reports)}, workspace, 0, nullptr);
}
