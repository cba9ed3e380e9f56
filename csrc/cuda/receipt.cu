#include "receipt.h"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include "launch.h"

namespace bmatch::cuda {

enum class State { unknown, followed, written };

struct Mailbox {
  int device = 0;
  std::int64_t room = 0;  // for so many reports
  Report* reports = nullptr;
  cudaEvent_t end = nullptr;  // of the solve, where that is followed
  State state = State::unknown;

  Mailbox() = default;
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;
  ~Mailbox() {
    if (reports != nullptr) cudaFreeHost(reports);
    if (end != nullptr) cudaEventDestroy(end);
  }
};

namespace {

constexpr std::int64_t kLeastRoom = 64;

struct Pool {
  std::mutex guard;
  std::vector<std::unique_ptr<Mailbox>> mailboxes;
};

// Never destroyed: at exit the driver may be gone before it.
Pool& pool() {
  static Pool* const one = new Pool;
  return *one;
}

bool is_written(Mailbox& box) {
  if (box.state == State::written) return true;
  const cudaError_t answer = cudaEventQuery(box.end);
  if (answer == cudaErrorNotReady) {
    cudaGetLastError();  // forgotten: it is no error
    return false;
  }
  check(answer, "waiting for solve_kernel");
  box.state = State::written;
  return true;
}

// One of the pool that no solve writes to any more, or a new one.
std::unique_ptr<Mailbox> take(int device) {
  const std::lock_guard<std::mutex> lock(pool().guard);
  auto& all = pool().mailboxes;
  for (auto& one : all) {
    if (one->device != device || !is_written(*one)) continue;
    std::unique_ptr<Mailbox> taken = std::move(one);
    std::swap(one, all.back());
    all.pop_back();
    return taken;
  }
  return std::make_unique<Mailbox>();
}

}  // namespace

bool is_captured(int device, void* stream) {
  const CurrentDevice current(device);
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &status),
        "asking whether a graph is captured");
  return status != cudaStreamCaptureStatusNone;
}

Receipt::Receipt(std::int64_t problems, int device) : problems_(problems), mailbox_(take(device)) {
  Mailbox& box = *mailbox_;
  box.device = device;
  box.state = State::unknown;
  if (box.room >= problems) return;
  const CurrentDevice current(device);
  if (box.end == nullptr) {
    check(cudaEventCreateWithFlags(&box.end, cudaEventDisableTiming), "making an event");
  }
  if (box.reports != nullptr) cudaFreeHost(std::exchange(box.reports, nullptr));
  box.room = std::max(kLeastRoom, problems);
  check(cudaHostAlloc(reinterpret_cast<void**>(&box.reports), box.room * sizeof(Report),
                      cudaHostAllocPortable | cudaHostAllocMapped),
        "taking memory of the host");
}

Receipt::~Receipt() {
  // A solve that failed on its way to the stream may write, and nothing says until when.
  if (mailbox_->state == State::unknown) {
    mailbox_.release();
    return;
  }
  const std::lock_guard<std::mutex> lock(pool().guard);
  pool().mailboxes.push_back(std::move(mailbox_));
}

Report* Receipt::reports() const { return mailbox_->reports; }

void Receipt::follow(void* stream) {
  const CurrentDevice current(mailbox_->device);
  check(cudaEventRecord(mailbox_->end, static_cast<cudaStream_t>(stream)), "recording an event");
  mailbox_->state = State::followed;
}

bool Receipt::has_arrived() const { return is_written(*mailbox_); }

}  // namespace bmatch::cuda
