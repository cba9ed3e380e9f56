#include "batch.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

#include "assignment/rows/packed.h"
#include "threads.h"

namespace bmatch {

template <typename T>
BatchResult solve_batch(const BatchView<T>& batch, int threads, std::int64_t* col_of_row,
                        const Interrupted& interrupted) {
  std::atomic<std::int64_t> next{0};
  std::atomic<bool> failed{false}, cancelled{false};
  std::mutex guard;
  BatchResult result{Outcome::optimal, batch.problems};
  Options options;
  options.certificate = false;

  auto work = [&](const Interrupted& stop) {
    for (std::int64_t b; !failed && (b = next++) < batch.problems;) {
      CostView<T> view{batch.data + b * batch.problem_stride,
                       batch.sizes == nullptr ? batch.rows : batch.sizes[2 * b],
                       batch.sizes == nullptr ? batch.cols : batch.sizes[2 * b + 1],
                       batch.row_stride,
                       batch.col_stride,
                       batch.sense};
      const bool tall = view.rows > view.cols;
      const Partial partial{batch.limits == nullptr ? kInfinity : batch.limits[b], batch.most};
      const ScannerOf<T> scanner(tall ? view.transposed() : view);
      const Solution s = solve_partial(scanner, partial, options, stop);
      if (s.outcome != Outcome::optimal) {
        const std::lock_guard<std::mutex> lock(guard);
        // Problems are handed out in order and those begun are finished, so the least of those that
        // fail is the first of all.
        if (b < result.problem) result = {s.outcome, b};
        failed = true;
        return;
      }
      std::int64_t* out = col_of_row + b * batch.rows;
      const auto& columns = tall ? s.matching.row_of_col : s.matching.col_of_row;
      std::copy_n(columns.begin(), view.rows, out);
      std::fill(out + view.rows, out + batch.rows, std::int64_t{kNone});
    }
  };
  // Only the calling thread may ask Python whether the user wants to stop.
  const Interrupted is_cancelled = [&] { return cancelled.load(std::memory_order_relaxed); };
  const Interrupted ask = [&] {
    if (interrupted()) cancelled = true;
    return is_cancelled();
  };
  const auto most = static_cast<int>(std::min<std::int64_t>(threads, batch.problems));
  ThreadTeam(std::max(most, 1)).run([&](int k) { work(k == 0 ? ask : is_cancelled); });
  if (cancelled) result.outcome = Outcome::interrupted;
  return result;
}

template BatchResult solve_batch(const BatchView<float>&, int, std::int64_t*, const Interrupted&);
template BatchResult solve_batch(const BatchView<double>&, int, std::int64_t*, const Interrupted&);
template BatchResult solve_batch(const BatchView<Half>&, int, std::int64_t*, const Interrupted&);
template BatchResult solve_batch(const BatchView<Bfloat16>&, int, std::int64_t*,
                                 const Interrupted&);
template BatchResult solve_batch(const BatchView<Boolean>&, int, std::int64_t*, const Interrupted&);
template BatchResult solve_batch(const BatchView<std::int8_t>&, int, std::int64_t*,
                                 const Interrupted&);
template BatchResult solve_batch(const BatchView<std::uint8_t>&, int, std::int64_t*,
                                 const Interrupted&);
template BatchResult solve_batch(const BatchView<std::int16_t>&, int, std::int64_t*,
                                 const Interrupted&);
template BatchResult solve_batch(const BatchView<std::uint16_t>&, int, std::int64_t*,
                                 const Interrupted&);
template BatchResult solve_batch(const BatchView<std::int32_t>&, int, std::int64_t*,
                                 const Interrupted&);
template BatchResult solve_batch(const BatchView<std::uint32_t>&, int, std::int64_t*,
                                 const Interrupted&);

}  // namespace bmatch
