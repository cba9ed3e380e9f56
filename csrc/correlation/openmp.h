// The threads of torch.
//
// Moments are taken between torch's own passes, whose OpenMP threads wait for more by spinning:
// others would have to wait until they are done.  So the pool that torch has loaded is used, found
// by name at run time; where there is none of GCC's interface, threads are bmatch's own.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "threads.h"

namespace bmatch {

std::unique_ptr<Threads> threads_beside_torch(int threads);

// While it lives, a second team of OpenMP threads stands idle.
//
// A thread that waits at a barrier of libgomp looks on for milliseconds before it sleeps, and so
// keeps its core from the very thread that it waits for, if another process has taken that one's.
// Where libgomp counts more threads than cores, it looks on for less than a microsecond.  No other
// setting of it can be changed once it is loaded.
class IdleTeam {
 public:
  explicit IdleTeam(int threads);
  ~IdleTeam();
  IdleTeam(const IdleTeam&) = delete;
  IdleTeam& operator=(const IdleTeam&) = delete;

 private:
  std::mutex guard_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread master_;  // of the team, which ends with it
};

}  // namespace bmatch
