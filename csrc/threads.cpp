#include "threads.h"

#include <system_error>

namespace bmatch {
namespace {

// Rounds of one pass follow one another within microseconds: looking for the next one a while
// costs less than going to sleep and being woken.
constexpr int kLooks = 200000;

}  // namespace

ThreadTeam::ThreadTeam(int threads) {
  try {
    for (int k = 1; k < threads; ++k) helpers_.emplace_back([this, k] { help(k); });
  } catch (const std::system_error&) {  // the system gives no more threads: these must do
  }
}

ThreadTeam::~ThreadTeam() {
  {
    const std::lock_guard<std::mutex> lock(guard_);
    over_ = true;
    ++round_;
  }
  changed_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

void ThreadTeam::run(const std::function<void(int)>& work) {
  if (helpers_.empty()) {
    work(0);
    return;
  }
  {
    const std::lock_guard<std::mutex> lock(guard_);
    work_ = &work;
    busy_ = static_cast<int>(helpers_.size());
    ++round_;
  }
  changed_.notify_all();
  work(0);
  for (int look = 0; busy_ != 0; ++look) {
    if (look < kLooks) continue;
    std::unique_lock<std::mutex> lock(guard_);
    changed_.wait(lock, [&] { return busy_ == 0; });
  }
}

void ThreadTeam::help(int k) {
  for (int seen = 0;; ++seen) {
    for (int look = 0; round_ == seen; ++look) {
      if (look < kLooks) continue;
      std::unique_lock<std::mutex> lock(guard_);
      changed_.wait(lock, [&] { return round_ != seen; });
    }
    const std::function<void(int)>* work;
    {
      const std::lock_guard<std::mutex> lock(guard_);
      if (over_) return;
      work = work_;
    }
    (*work)(k);
    bool last;
    {
      const std::lock_guard<std::mutex> lock(guard_);
      last = --busy_ == 0;
    }
    if (last) changed_.notify_all();
  }
}

}  // namespace bmatch
