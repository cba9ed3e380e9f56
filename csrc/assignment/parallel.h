// Rows shared out over threads.
//
// Threads live as long as one call: nothing of them survives a fork, nothing clashes with the
// pools of other libraries.  What is computed for a row must not depend on the thread, so that
// answers are the same for any number of them.
#pragma once

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

#include "row_scanner.h"

namespace bmatch {

// Calls f(i, scratch) for begin <= i < end, 16 rows at a time to whichever thread is idle.
template <typename F>
void parallel_rows(const RowScanner& costs, int threads, Index begin, Index end, F f) {
  constexpr Index kChunk = 16;
  threads = std::min<int>(threads, (end - begin + kChunk - 1) / kChunk);
  if (threads <= 1) {
    RowScanner::Scratch scratch = costs.scratch();
    for (Index i = begin; i < end; ++i) f(i, scratch);
    return;
  }
  std::atomic<Index> next{begin};
  auto work = [&] {
    RowScanner::Scratch scratch = costs.scratch();
    for (Index i; (i = next.fetch_add(kChunk, std::memory_order_relaxed)) < end;) {
      const Index stop = std::min(i + kChunk, end);
      for (; i < stop; ++i) f(i, scratch);
    }
  };
  std::vector<std::thread> helpers;
  try {
    for (int k = 1; k < threads; ++k) helpers.emplace_back(work);
  } catch (const std::system_error&) {  // the system gives no more threads: these must do
  }
  work();
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace bmatch
