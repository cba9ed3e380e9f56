// What a solve did.
#pragma once

#include <chrono>
#include <cstdint>

namespace bmatch {

struct Stats {
  std::int64_t row_reads = 0;      // rows of the matrix read, for whatever purpose
  std::int64_t rescans = 0;        // of these: lists made again at later prices
  std::int64_t bids = 0;           // auction and row reduction
  std::int64_t augmentations = 0;  // shortest paths found
  double first_pass_seconds = 0.0;
  double auction_seconds = 0.0;  // row reduction included
  double path_seconds = 0.0;
  double certificate_seconds = 0.0;

  // What another solve did, too.
  void add(const Stats& other) {
    row_reads += other.row_reads;
    rescans += other.rescans;
    bids += other.bids;
    augmentations += other.augmentations;
    first_pass_seconds += other.first_pass_seconds;
    auction_seconds += other.auction_seconds;
    path_seconds += other.path_seconds;
    certificate_seconds += other.certificate_seconds;
  }
};

// Adds the time from its construction to its end to a field of Stats.
class PhaseTimer {
 public:
  explicit PhaseTimer(double& seconds) : seconds_(seconds) {}
  ~PhaseTimer() {
    seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }
  PhaseTimer(const PhaseTimer&) = delete;
  PhaseTimer& operator=(const PhaseTimer&) = delete;

 private:
  double& seconds_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace bmatch
