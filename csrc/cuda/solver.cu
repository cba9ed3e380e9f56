#include "solver.h"

#include <algorithm>

#include "launch.h"
#include "solve.h"
#include "warp_paths.h"

namespace bmatch::cuda {
namespace {

// 384 threads leave each 168 registers: with 512 some would be spilled.  Two blocks of 192 take the
// same.
constexpr unsigned kMostThreads = 384, kBlockThreads = 192, kWarpThreads = 128;
constexpr unsigned kResidentBlocks = kMostThreads / kBlockThreads;
constexpr std::size_t kReservedBytes = 1024;  // of shared memory, by each block
constexpr std::size_t kNearBytes = 18'432;    // of a warp's arrays, if the matrix is one of them

// What of a team's arrays is in shared memory; the rest is in the workspace.  The large ones are
// lists; of a warp the matrix, which is copied if there is room and else read where it lies.
enum class Near { nothing, small, all };

struct Room {
  std::size_t shared_bytes, workspace_bytes;  // of a team
  Near near;
};

struct Batch {
  const void* cost;
  int problems, rows, cols;  // of the largest, by which memory is laid out
  long long problem_stride, row_stride;
  Sense sense;
  unsigned char* workspace;
  Room room;
  const double* prices;       // [cols] or null
  const std::int32_t* sizes;  // [problems, 2] or null
  int most_work;
  Answer answer;

  template <typename T>
  __device__ Problem<T> problem(int k) const {
    const bool alike = sizes == nullptr;
    const T* const from = static_cast<const T*>(cost) + k * problem_stride;
    const int width = alike ? cols : sizes[2 * k + 1];
    return {from,
            alike ? rows : sizes[2 * k],
            width,
            row_stride,
            CostBits<typename Stored<T>::Number>(sense),
            reinterpret_cast<std::uintptr_t>(from) % (4 * sizeof(T)) == 0 && row_stride % 4 == 0 &&
                width % 4 == 0};
  }
};

// What a solve leaves behind: [rows] and [cols].
struct Found {
  int outcome, rows, cols;
  const int *col_of_row, *trapped;  // trapped: 1 for rows that compete for too few columns
  const double *u, *v;
};

__device__ void hand_over(const Batch& batch, int k, const Found& found, int thread, int threads) {
  const std::size_t rows = batch.rows, cols = batch.cols;
  const bool solved = found.outcome == kOptimal || found.outcome == kDwarfed;
  for (int i = thread; i < batch.rows; i += threads) {
    const bool there = i < found.rows, has = solved && there;
    const bool trapped = there && found.outcome == kInfeasible && peek(found.trapped + i) == 1;
    batch.answer.col_of_row[k * rows + i] = has       ? peek(found.col_of_row + i)
                                            : trapped ? kTrapped
                                                      : -1;
    if (batch.answer.u != nullptr)
      batch.answer.u[k * rows + i] = has ? peek(found.u + i) : not_a_number();
  }
  if (batch.answer.v == nullptr) return;
  for (int j = thread; j < batch.cols; j += threads) {
    batch.answer.v[k * cols + j] = solved && j < found.cols ? peek(found.v + j) : not_a_number();
  }
}

// The problem and pointers to the team's arrays, which would take too many registers: each block
// has them in shared memory.  The arrays follow if there is room.
template <typename T>
struct alignas(16) Header {
  State state;
  Problem<T> problem;
};

// By blocks or the grid.
template <typename T, bool kWide>
__global__ void __launch_bounds__(kMostThreads, 1) solve_kernel(Batch batch) {
  const int own = kWide ? 0 : static_cast<int>(blockIdx.x);
  const int step = kWide ? 1 : static_cast<int>(gridDim.x);
  Header<T>& header = *reinterpret_cast<Header<T>*>(shared_memory());
  State& state = header.state;
  if (threadIdx.x == 0) {
    const Room& room = batch.room;
    unsigned char* const given = batch.workspace + own * room.workspace_bytes;
    unsigned char* const rest =
        room.near == Near::nothing ? given : reinterpret_cast<unsigned char*>(&header + 1);
    unsigned char* const end = state.place_rest(rest, batch.rows, batch.cols);
    state.place_lists(room.near == Near::small ? given : end, batch.rows, batch.cols,
                      sizeof(typename Stored<T>::Number));
  }
  __syncthreads();

  Team<kWide> team(&state.control->arrivals);
  for (int k = own; k < batch.problems; k += step) {
    if (threadIdx.x == 0) header.problem = batch.template problem<T>(k);
    __syncthreads();
    const Problem<T>& problem = header.problem;
    const int outcome = Solve<T, kWide>(problem, state, team, batch.prices, batch.most_work).run();
    hand_over(
        batch, k,
        {outcome, problem.rows, problem.cols, state.col_of_row, state.choice, state.u, state.v},
        team.thread(), team.threads());
    if (team.thread() == 0) batch.answer.reports[k] = state.control->report;
    if (k + step < batch.problems) team.sync();  // before the next takes the same memory
  }
}

// By warps.  Registers for a lane's columns leave room for so many blocks.
constexpr int blocks_of_paths(int of_lane) { return of_lane == 1 ? 4 : 3; }
template <typename T, int kOfLane>
__global__ void __launch_bounds__(kWarpThreads, blocks_of_paths(kOfLane))
    paths_kernel(Batch batch) {
  const int warps = static_cast<int>(blockDim.x / kWarp);
  const int in_block = static_cast<int>(threadIdx.x / kWarp);
  const int own = static_cast<int>(blockIdx.x) * warps + in_block;
  const int step = static_cast<int>(gridDim.x) * warps;
  const Room& room = batch.room;
  PathArrays<T> arrays;
  arrays.place(room.near == Near::nothing ? batch.workspace + own * room.workspace_bytes
                                          : shared_memory() + in_block * room.shared_bytes,
               batch.rows, batch.cols, room.near == Near::all);
  const bool certified = batch.answer.u != nullptr || batch.problems == 1;
  for (int k = own; k < batch.problems; k += step) {
    const Problem<T> problem = batch.template problem<T>(k);
    Report report;
    const int outcome = WarpPaths<T, kOfLane>(problem, arrays, batch.prices).run(report, certified);
    hand_over(batch, k,
              {outcome, problem.rows, problem.cols, arrays.col_of_row, arrays.trapped, arrays.u,
               arrays.v},
              lane_id(), kWarp);
    if (lane_id() == 0) batch.answer.reports[k] = report;
  }
}

constexpr int kMostOfLane = 8;

// The kernel for problems of so many columns.
template <typename T>
auto paths_kernel_of(std::int64_t cols) {
  return cols <= kWarp       ? paths_kernel<T, 1>
         : cols <= 2 * kWarp ? paths_kernel<T, 2>
         : cols <= 4 * kWarp ? paths_kernel<T, 4>
                             : paths_kernel<T, kMostOfLane>;
}

template <typename T>
auto kernel_of(TeamKind team, const Task& task) {
  return team == TeamKind::warp    ? paths_kernel_of<T>(task.cols)
         : team == TeamKind::block ? solve_kernel<T, false>
                                   : solve_kernel<T, true>;
}

struct Choice {
  unsigned threads, teams_a_block;
};
Choice choice_of(TeamKind team) {
  switch (team) {
    case TeamKind::warp:
      return {kWarpThreads, kWarpThreads / kWarp};
    case TeamKind::block:
      return {kBlockThreads, 1};
    case TeamKind::grid:
      break;
  }
  return {kMostThreads, 1};
}

// Calls f with a null pointer to the type of the entries.
template <typename F>
auto with_type(Type type, F f) {
  switch (type) {
    case Type::float64:
      return f(static_cast<const double*>(nullptr));
    case Type::float16:
      return f(static_cast<const Half*>(nullptr));
    case Type::bfloat16:
      return f(static_cast<const Bfloat16*>(nullptr));
    case Type::float32:
      break;
  }
  return f(static_cast<const float*>(nullptr));
}

// A team within a block has its arrays in shared memory, with the lists where as many blocks stay
// resident as its registers allow.
template <typename T>
Room room_for(const Task& task, TeamKind team) {
  const auto rows = static_cast<int>(task.rows), cols = static_cast<int>(task.cols);
  const auto rounded = [](std::size_t bytes) { return (bytes + 255) / 256 * 256; };
  if (team == TeamKind::warp) {
    if (cols > kMostOfLane * kWarp) {
      throw std::runtime_error("paths_kernel: a warp solves problems of up to 256 columns");
    }
    const auto kernel = paths_kernel_of<T>(cols);
    const std::size_t most = most_shared_bytes(kernel) / choice_of(team).teams_a_block;
    const std::size_t all = PathArrays<T>::bytes(rows, cols, true);
    if (all <= kNearBytes) return {all, 0, Near::all};
    const std::size_t small = PathArrays<T>::bytes(rows, cols, false);
    return small <= most ? Room{small, 0, Near::small} : Room{0, rounded(small), Near::nothing};
  }
  const std::size_t rest = State::rest_bytes(rows, cols);
  const std::size_t lists = State::list_bytes(rows, cols, sizeof(typename Stored<T>::Number));
  if (team == TeamKind::block) {
    const std::size_t most = most_shared_bytes(solve_kernel<T, false>);
    const std::size_t each = (most + kReservedBytes) / kResidentBlocks - kReservedBytes;
    const std::size_t small = sizeof(Header<T>) + rest, all = small + lists;
    if (all <= each) return {all, 0, Near::all};
    if (small <= most) return {small, rounded(lists), Near::small};
  }
  return {sizeof(Header<T>), rounded(rest + lists), Near::nothing};
}

std::size_t shared_bytes(const Room& room, TeamKind team) {
  return choice_of(team).teams_a_block * room.shared_bytes;
}

// Blocks for a task: those that are resident at once, fewer if there are fewer problems or rows.
template <typename T>
unsigned blocks_for(const Task& task, TeamKind team, const Room& room) {
  const Choice choice = choice_of(team);
  const std::int64_t resident =
      resident_blocks(kernel_of<T>(team, task), choice.threads, shared_bytes(room, team));
  const std::int64_t useful =
      team == TeamKind::grid ? (task.rows + choice.threads / kWarp - 1) / (choice.threads / kWarp)
                             : (task.problems + choice.teams_a_block - 1) / choice.teams_a_block;
  return static_cast<unsigned>(std::max<std::int64_t>(1, std::min(resident, useful)));
}

}  // namespace

Facts facts() {
#if defined(__CUDACC__)
  Facts f{true, BMATCH_CUDA_COMPILED, 0, 0, ""};
  cudaDriverGetVersion(&f.driver);
  const cudaError_t error = cudaGetDeviceCount(&f.devices);
  if (error != cudaSuccess) {
    f.devices = 0;
    f.trouble = f.driver == 0 ? "this machine has no CUDA driver" : cudaGetErrorString(error);
    cudaGetLastError();
  }
  return f;
#else
  return {true, "the CPU, for tests", 0, 1, ""};
#endif
}

std::size_t workspace_bytes(const Task& task, TeamKind team, int device) {
  const CurrentDevice current(device);
  return with_type(task.type, [&](auto* null) {
    using T = std::remove_cv_t<std::remove_pointer_t<decltype(null)>>;
    const Room room = room_for<T>(task, team);
    if (team == TeamKind::grid) return room.workspace_bytes;
    return room.workspace_bytes * blocks_for<T>(task, team, room) * choice_of(team).teams_a_block;
  });
}

void solve(const Task& task, TeamKind team, const Answer& answer, void* workspace, int device,
           void* stream) {
  const CurrentDevice current(device);
  const auto queue = static_cast<cudaStream_t>(stream);
  with_type(task.type, [&](auto* null) {
    using T = std::remove_cv_t<std::remove_pointer_t<decltype(null)>>;
    const Batch batch{task.cost,
                      static_cast<int>(task.problems),
                      static_cast<int>(task.rows),
                      static_cast<int>(task.cols),
                      task.problem_stride,
                      task.row_stride,
                      task.sense,
                      static_cast<unsigned char*>(workspace),
                      room_for<T>(task, team),
                      task.prices,
                      task.sizes,
                      task.most_work,
                      answer};
    const bool wide = team == TeamKind::grid;
    if (wide) clear(workspace, sizeof(Control), queue);  // the barrier's arrivals
    launch(team == TeamKind::warp ? "paths_kernel" : "solve_kernel", kernel_of<T>(team, task),
           Shape{blocks_for<T>(task, team, batch.room), choice_of(team).threads,
                 shared_bytes(batch.room, team), wide},
           queue, batch);
  });
}

}  // namespace bmatch::cuda
