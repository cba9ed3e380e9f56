// Rows shared out over threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "row_scanner.h"
#include "threads.h"

namespace bmatch {

// Calls f(first, count, scratch) for chunks of up to kChunk rows from begin to end, each in
// whichever thread is idle.
constexpr int kChunk = 16;
template <typename F>
void parallel_rows(const RowScanner& costs, ThreadTeam& team, Index begin, Index end, F f) {
  std::atomic<std::int64_t> next{begin};
  team.run([&](int) {
    RowScanner::Scratch scratch = costs.scratch();
    for (std::int64_t first; (first = next.fetch_add(kChunk, std::memory_order_relaxed)) < end;) {
      const auto stop = static_cast<Index>(std::min<std::int64_t>(first + kChunk, end));
      f(static_cast<Index>(first), static_cast<int>(stop - first), scratch);
    }
  });
}

}  // namespace bmatch
