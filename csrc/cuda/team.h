// The threads that solve one problem together: a block, a cluster of blocks, the whole grid.  (One
// warp alone has a way of its own, warp_paths.h.)
//
// Warps are the workers; the solver hands rows to them.  What threads of a team write before
// sync() all of them see after it.
#pragma once

#include "device.h"
#include "solver.h"

namespace bmatch::cuda {

// Where all threads of a cluster wait for one another.
__device__ __forceinline__ void cluster_barrier() {
#if !defined(__CUDACC__)
  host::launch_barrier();
#elif __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
#else
  __trap();  // such a device has no clusters
#endif
}

template <bool kWide>
class Team {
 public:
  // `arrivals`, at first zero, counts blocks at the grid's barriers.  They wait for one another, so
  // all must be resident: a cooperative launch.
  __device__ Team(TeamKind kind, unsigned* arrivals) : kind_(kind), arrivals_(arrivals) {
    const auto in_block = static_cast<int>(threadIdx.x / kWarp);
    const auto of_block = static_cast<int>(blockDim.x / kWarp);
    if constexpr (kWide) {  // of a cluster, too: it is the whole grid of its launch
      warp_ = static_cast<int>(blockIdx.x) * of_block + in_block;
      warps_ = static_cast<int>(gridDim.x) * of_block;
    } else {
      warp_ = in_block, warps_ = of_block;
    }
  }

  static constexpr bool is_wide() { return kWide; }
  __device__ int warp() const { return warp_; }
  __device__ int warps() const { return warps_; }
  __device__ int thread() const { return warp_ * kWarp + lane_id(); }
  __device__ int threads() const { return warps_ * kWarp; }

  __device__ void sync() {
#if !defined(__CUDACC__)
    host::end_interval();
#endif
    if (kWide && kind_ == TeamKind::cluster) {
      cluster_barrier();
      return;
    }
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
  const TeamKind kind_;
  unsigned* const arrivals_;
  unsigned expected_ = 0;
  int warp_, warps_;
};

}  // namespace bmatch::cuda
