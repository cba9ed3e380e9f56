// Reports of a solve in memory of the host, for callers without CUDA headers.
#pragma once

#include <cstdint>
#include <memory>

#include "solver.h"

namespace bmatch::cuda {

// Whether a CUDA graph records what is put on a stream of a device: nothing can be waited for then.
bool is_captured(int device, void* stream);

struct Mailbox;

// Memory to which the device itself writes the reports of one solve, so that no copy of them
// follows the kernels.  It comes from a pool and goes back to it; memory that is given up while the
// device may still write to it stays there until it is written.
class Receipt {
 public:
  Receipt(std::int64_t problems, int device);
  ~Receipt();
  Receipt(const Receipt&) = delete;
  Receipt& operator=(const Receipt&) = delete;

  Report* reports() const;
  std::int64_t problems() const { return problems_; }
  // After the solve was put on a stream.
  void follow(void* stream);
  // Whether the reports are there.  Throws std::runtime_error if the device failed.
  bool has_arrived() const;

 private:
  std::int64_t problems_;
  std::unique_ptr<Mailbox> mailbox_;
};

}  // namespace bmatch::cuda
