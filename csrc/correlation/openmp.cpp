#include "openmp.h"

#include <atomic>
#include <functional>

#if __has_include(<dlfcn.h>)
#include <dlfcn.h>
#endif

namespace bmatch {
namespace {

// libgomp's and, for its sake, LLVM's and Intel's: calls f(data) in each thread of a team.
using Parallel = void (*)(void (*f)(void*), void* data, unsigned threads, unsigned flags);

class OpenMp final : public Threads {
 public:
  OpenMp(Parallel parallel, int threads) : parallel_(parallel), threads_(threads) {}

  int threads() const override { return threads_; }

  void run(const std::function<void(int)>& work) override {
    struct Round {
      const std::function<void(int)>& work;
      std::atomic<int> next{0};
    } round{work};
    const auto take = [](void* data) {
      Round& taken = *static_cast<Round*>(data);
      taken.work(taken.next++);
    };
    parallel_(take, &round, static_cast<unsigned>(threads_), 0);
  }

 private:
  Parallel parallel_;
  int threads_;
};

Parallel find() {
#if __has_include(<dlfcn.h>)
  return reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
#else
  return nullptr;
#endif
}

}  // namespace

std::unique_ptr<Threads> threads_beside_torch(int threads) {
  const Parallel parallel = threads > 1 ? find() : nullptr;
  if (parallel == nullptr) return std::make_unique<ThreadTeam>(threads);
  return std::make_unique<OpenMp>(parallel, threads);
}

IdleTeam::IdleTeam(int threads) {
  const Parallel parallel = find();
  if (parallel == nullptr) return;
  master_ = std::thread([this, parallel, threads] {
    parallel([](void*) {}, nullptr, static_cast<unsigned>(threads), 0);
    std::unique_lock<std::mutex> lock(guard_);
    changed_.wait(lock, [this] { return over_; });
  });
}

IdleTeam::~IdleTeam() {
  if (!master_.joinable()) return;
  {
    const std::lock_guard<std::mutex> lock(guard_);
    over_ = true;
  }
  changed_.notify_all();
  master_.join();
}

}  // namespace bmatch
