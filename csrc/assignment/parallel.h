// Rows shared out over threads.
//
// A team lives as long as one solve: nothing of it survives a fork, nothing clashes with the
// pools of other libraries.  What is computed for a row must not depend on the thread, so that
// answers are the same for any number of them.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "row_scanner.h"

namespace bmatch {

class Team {
 public:
  explicit Team(int threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int threads() const { return static_cast<int>(helpers_.size()) + 1; }  // what the system gave

  // Calls work(k) for k = 0 .. threads() - 1 at once; 0 is the calling thread.
  void run(const std::function<void(int)>& work);

 private:
  void help(int k);

  std::vector<std::thread> helpers_;
  std::mutex guard_;
  std::condition_variable changed_;
  const std::function<void(int)>* work_ = nullptr;
  std::atomic<int> round_{0}, busy_{0};
  bool over_ = false;
};

// Calls f(first, count, scratch) for chunks of up to kChunk rows from begin to end, each in whichever
// thread is idle.
constexpr int kChunk = 16;
template <typename F>
void parallel_rows(const RowScanner& costs, Team& team, Index begin, Index end, F f) {
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
