// The threads that solve one problem together: a block, or the whole grid.  (One warp alone has a
// way of its own, warp_paths.h.)
//
// Warps are the workers; the solver hands rows to them.  What threads of a team write before
// sync() all of them see after it.
#pragma once

#include "device.h"

namespace bmatch::cuda {

// kWide: the grid.
template <bool kWide>
class Team {
 public:
  // `arrivals`, at first zero, counts blocks at the grid's barriers.  They wait for one another, so
  // all must be resident: a cooperative launch.
  __device__ explicit Team(unsigned* arrivals)
      : arrivals_(arrivals),
        warp_(static_cast<int>(((kWide ? blockIdx.x : 0) * blockDim.x + threadIdx.x) / kWarp)),
        warps_(static_cast<int>((kWide ? gridDim.x : 1) * blockDim.x / kWarp)) {}

  __device__ int warp() const { return warp_; }
  __device__ int warps() const { return warps_; }
  __device__ int thread() const { return warp_ * kWarp + lane_id(); }
  __device__ int threads() const { return warps_ * kWarp; }

  __device__ void sync() {
#if !defined(__CUDACC__)
    host::end_interval();
#endif
    __syncthreads();
    if (!kWide) return;
    expected_ += gridDim.x;
    if (threadIdx.x == 0) {  // who came to __syncthreads() before is released and acquires with it
      add_release(arrivals_, 1u);
      while (load_acquire(arrivals_) < expected_) {
      }
    }
    __syncthreads();
  }

 private:
  unsigned* const arrivals_;
  const int warp_, warps_;
  unsigned expected_ = 0;
};

}  // namespace bmatch::cuda
