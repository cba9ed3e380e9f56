// Threads that take rounds of work together.  What is computed must not depend on the thread, so
// that answers are the same for any number of them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace bmatch {

class Threads {
 public:
  virtual ~Threads() = default;

  virtual int threads() const = 0;

  // Calls work(k) at once for k = 0, in the calling thread, and for those of 1 .. threads() - 1
  // that the system finds a core for in time: what is to be done is shared out by work itself.
  virtual void run(const std::function<void(int)>& work) = 0;
};

// Threads of its own.  A team lives as long as one solve: nothing of it survives a fork, nothing
// clashes with the pools of other libraries.
class ThreadTeam final : public Threads {
 public:
  explicit ThreadTeam(int threads);
  ~ThreadTeam() override;
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int threads() const override { return static_cast<int>(helpers_.size()) + 1; }

  // A helper whose core another process has comes too late for a round, and nobody waits for it.
  void run(const std::function<void(int)>& work) override;

 private:
  void help(int k);

  std::vector<std::thread> helpers_;
  std::mutex guard_;
  std::condition_variable changed_;
  const std::function<void(int)>* work_ = nullptr;  // of a round that helpers may still join
  std::atomic<int> round_{0}, inside_{0};
  bool over_ = false;
};

// Calls f(k) for k = 0 .. count - 1, each in whichever thread is idle.
template <typename F>
void share(Threads& threads, std::int64_t count, F f) {
  std::atomic<std::int64_t> next{0};
  threads.run([&](int) {
    for (std::int64_t k; (k = next.fetch_add(1, std::memory_order_relaxed)) < count;) f(k);
  });
}

}  // namespace bmatch
