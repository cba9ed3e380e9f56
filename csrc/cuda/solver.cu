#include "solver.h"

#include <algorithm>

#include "launch.h"
#include "solve.h"

namespace bmatch::cuda {
namespace {

// 384 threads leave each 168 registers: with 512 some would be spilled.  Two blocks of 192 or three
// of 128 take the same.
constexpr unsigned kMostThreads = 384, kBlockThreads = 192, kWarpThreads = 128;

// Where the arrays of a team lie.
struct Room {
  std::size_t rest_bytes, workspace_bytes;  // of a team: all but the lists; what is in the workspace
  bool shared;                              // whether the rest is in shared memory
};

struct Batch {
  TeamKind team;
  Part part;
  const void* cost;
  int problems, rows, cols;
  long long problem_stride, row_stride;
  Sense sense;
  unsigned char* workspace;
  Room room;
  const double* prices;     // [cols] or null
  Answer answer;
};

template <typename T>
__global__ void __launch_bounds__(kMostThreads, 1) solve_kernel(Batch batch) {
  // Pointers to a team's arrays in shared memory, one set a team; then the arrays if there is room.
  const int teams = batch.team == TeamKind::warp ? static_cast<int>(blockDim.x / kWarp) : 1;
  const int in_block = static_cast<int>(threadIdx.x) / (static_cast<int>(blockDim.x) / teams);
  const bool all = batch.team == TeamKind::cluster || batch.team == TeamKind::grid;  // one team
  const int in_grid = all ? 0 : static_cast<int>(blockIdx.x) * teams + in_block;
  const int step = all ? 1 : static_cast<int>(gridDim.x) * teams;
  State* const states = reinterpret_cast<State*>(shared_memory());
  State& state = states[in_block];
  if (threadIdx.x % (blockDim.x / teams) == 0) {
    const Room& room = batch.room;
    unsigned char* const own = batch.workspace + in_grid * room.workspace_bytes;
    unsigned char* const arrays = reinterpret_cast<unsigned char*>(states + teams);
    unsigned char* const rest = room.shared ? arrays + in_block * room.rest_bytes : own;
    unsigned char* const end = state.place_rest(rest, batch.rows, batch.cols);
    state.place_lists(room.shared ? own : end, batch.rows);
  }
  __syncthreads();

  Team team(batch.team, &state.control->arrivals[batch.part == Part::finish ? 1 : 0]);
  const std::size_t rows = batch.rows, cols = batch.cols;
  for (int k = in_grid; k < batch.problems; k += step) {
    const Problem<T> problem{static_cast<const T*>(batch.cost) + k * batch.problem_stride,
                             batch.rows, batch.cols, batch.row_stride,
                             CostBits<typename Stored<T>::Number>(batch.sense)};
    Solve<T>(problem, state, team, batch.prices).run(batch.part);
    if (batch.part == Part::start || batch.part == Part::search) return;  // others go on
    const int outcome = peek(&state.control->report.outcome);
    for (int i = team.thread(); i < batch.rows; i += team.threads()) {
      const bool trapped = outcome == kInfeasible && peek(state.choice + i) == 1;
      batch.answer.col_of_row[k * rows + i] =
          outcome == kOptimal || outcome == kDwarfed ? peek(state.col_of_row + i)
          : trapped                                    ? -2
                                                       : -1;
      if (batch.answer.u != nullptr) batch.answer.u[k * rows + i] = peek(state.u + i);
    }
    if (batch.answer.v != nullptr) {
      for (int j = team.thread(); j < batch.cols; j += team.threads()) {
        batch.answer.v[k * cols + j] = peek(state.v + j);
      }
    }
    if (team.thread() == 0) batch.answer.reports[k] = state.control->report;
    team.sync();
  }
}

struct Choice {
  unsigned threads, teams_a_block;
};
Choice choice_of(TeamKind team) {
  switch (team) {
    case TeamKind::warp: return {kWarpThreads, kWarpThreads / kWarp};
    case TeamKind::block: return {kBlockThreads, 1};
    case TeamKind::cluster:
    case TeamKind::grid: break;
  }
  return {kMostThreads, 1};
}

// Calls f with a null pointer to the type of the entries.
template <typename F>
auto with_type(Type type, F f) {
  switch (type) {
    case Type::float64: return f(static_cast<const double*>(nullptr));
    case Type::float16: return f(static_cast<const Half*>(nullptr));
    case Type::bfloat16: return f(static_cast<const Bfloat16*>(nullptr));
    case Type::float32: break;
  }
  return f(static_cast<const float*>(nullptr));
}

template <typename T>
Room room_for(const Task& task, TeamKind team) {
  const auto rows = static_cast<int>(task.rows);
  Room room{State::rest_bytes(rows, static_cast<int>(task.cols)), 0, false};
  if (team == TeamKind::warp || team == TeamKind::block) {
    room.shared = choice_of(team).teams_a_block * (sizeof(State) + room.rest_bytes) <=
                  most_shared_bytes(solve_kernel<T>);
  }
  const std::size_t bytes = State::list_bytes(rows) + (room.shared ? 0 : room.rest_bytes);
  room.workspace_bytes = (bytes + 255) / 256 * 256;
  return room;
}

std::size_t shared_bytes(const Room& room, TeamKind team) {
  return choice_of(team).teams_a_block * (sizeof(State) + (room.shared ? room.rest_bytes : 0));
}

// Blocks for a task: those that are resident at once, fewer if there are fewer problems or rows.
template <typename T>
unsigned blocks_for(const Task& task, TeamKind team, const Room& room) {
  const Choice choice = choice_of(team);
  const std::size_t bytes = shared_bytes(room, team);
  if (team == TeamKind::cluster) {
    const unsigned blocks = cluster_blocks(solve_kernel<T>, choice.threads, bytes);
    if (blocks == 0) throw std::runtime_error("solve_kernel: this device has no clusters of 8 blocks");
    return blocks;
  }
  const std::int64_t resident = resident_blocks(solve_kernel<T>, choice.threads, bytes);
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
    if (team == TeamKind::grid || team == TeamKind::cluster) return room.workspace_bytes;
    return room.workspace_bytes * blocks_for<T>(task, team, room) * choice_of(team).teams_a_block;
  });
}

void solve(const Task& task, TeamKind team, const Answer& answer, void* workspace, int device,
           void* stream) {
  const CurrentDevice current(device);
  const auto queue = static_cast<cudaStream_t>(stream);
  with_type(task.type, [&](auto* null) {
    using T = std::remove_cv_t<std::remove_pointer_t<decltype(null)>>;
    Batch batch{team, Part::whole, task.cost, static_cast<int>(task.problems),
                static_cast<int>(task.rows), static_cast<int>(task.cols), task.problem_stride,
                task.row_stride, task.sense, static_cast<unsigned char*>(workspace),
                room_for<T>(task, team), task.prices, answer};
    const auto run = [&](Part part, TeamKind by) {
      batch.part = part;
      batch.team = by;
      const Choice choice = choice_of(by);
      launch("solve_kernel", solve_kernel<T>,
             Shape{blocks_for<T>(task, by, batch.room), choice.threads, shared_bytes(batch.room, by),
                   by == TeamKind::grid, by == TeamKind::cluster},
             queue, batch);
    };
    if (team != TeamKind::cluster) {
      if (team == TeamKind::grid) clear(workspace, sizeof(Control), queue);  // the barrier's arrivals
      return run(Part::whole, team);
    }
    batch.problems = 1;  // one after the other, all in the same memory
    for (std::int64_t k = 0; k < task.problems; ++k) {
      clear(workspace, sizeof(Control), queue);
      batch.cost = static_cast<const T*>(task.cost) + k * task.problem_stride;
      batch.answer = {answer.col_of_row + k * task.rows,
                      answer.u == nullptr ? nullptr : answer.u + k * task.rows,
                      answer.v == nullptr ? nullptr : answer.v + k * task.cols, answer.reports + k};
      run(Part::start, TeamKind::grid);
      run(Part::search, TeamKind::cluster);
      run(Part::finish, TeamKind::grid);
    }
  });
}

}  // namespace bmatch::cuda
