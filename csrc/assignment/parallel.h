// Rows shared out over threads.
//
// Threads live as long as one call: nothing of them survives a fork, nothing clashes with the
// pools of other libraries.  What is computed for a row must not depend on the thread, so that
// answers are the same for any number of them.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

#include "row_scanner.h"

namespace bmatch {

// Calls work(k) for k = 0 .. threads - 1 at once.  If the system gives fewer threads, the calls
// left over are made here.
template <typename F>
void in_threads(int threads, F work) {
  std::vector<std::thread> helpers;
  int started = 1;
  try {
    for (; started < threads; ++started) helpers.emplace_back(work, started);
  } catch (const std::system_error&) {
  }
  work(0);
  for (; started < threads; ++started) work(started);
  for (std::thread& helper : helpers) helper.join();
}

// Calls f(i, scratch) for begin <= i < end, 16 rows at a time to whichever thread is idle.
template <typename F>
void parallel_rows(const RowScanner& costs, int threads, Index begin, Index end, F f) {
  constexpr Index kChunk = 16;
  threads = std::max(1, std::min<int>(threads, (end - begin + kChunk - 1) / kChunk));
  std::atomic<std::int64_t> next{begin};
  in_threads(threads, [&](int) {
    RowScanner::Scratch scratch = costs.scratch();
    for (std::int64_t first; (first = next.fetch_add(kChunk, std::memory_order_relaxed)) < end;) {
      const auto stop = static_cast<Index>(std::min<std::int64_t>(first + kChunk, end));
      for (auto i = static_cast<Index>(first); i < stop; ++i) f(i, scratch);
    }
  });
}

}  // namespace bmatch
