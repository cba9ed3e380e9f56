// Rows that are asked for again, kept as long as there is room.
//
// A row is made anew the first time, and kept from the second on; what is kept stays, so that
// threads read it without a lock.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "assignment/matching.h"

namespace bmatch {

class RowCache {
 public:
  // Of rows [rows, cols] in float64; at most so many bytes of them.
  RowCache(Index rows, Index cols, std::int64_t bytes)
      : cols_(static_cast<std::size_t>(cols)),
        left_(cols == 0 ? 0 : bytes / (std::int64_t{8} * cols)),
        kept_(new std::atomic<double*>[static_cast<std::size_t>(rows)]()),
        asked_(new std::atomic<bool>[static_cast<std::size_t>(rows)]()),
        rows_(rows) {}
  ~RowCache() {
    for (Index i = 0; i < rows_; ++i) delete[] kept_[i].load(std::memory_order_relaxed);
  }
  RowCache(const RowCache&) = delete;
  RowCache& operator=(const RowCache&) = delete;

  // The row, or null.
  const double* find(Index i) const { return kept_[i].load(std::memory_order_acquire); }

  // Keeps row i, [cols], which make(out) makes, if it is asked for again and there is room; or
  // null.
  template <typename F>
  const double* keep(Index i, F make) {
    if (!asked_[i].exchange(true, std::memory_order_relaxed)) return nullptr;
    if (left_.load(std::memory_order_relaxed) <= 0) return nullptr;
    if (left_.fetch_sub(1, std::memory_order_relaxed) <= 0) return nullptr;
    std::unique_ptr<double[]> row(new double[cols_]);
    make(row.get());
    double* none = nullptr;
    if (!kept_[i].compare_exchange_strong(none, row.get(), std::memory_order_acq_rel)) {
      left_.fetch_add(1, std::memory_order_relaxed);
      return none;  // another thread was quicker
    }
    return row.release();
  }

 private:
  const std::size_t cols_;
  std::atomic<std::int64_t> left_;                      // rows for which there is room
  const std::unique_ptr<std::atomic<double*>[]> kept_;  // [rows]
  const std::unique_ptr<std::atomic<bool>[]> asked_;    // [rows]
  const Index rows_;
};

}  // namespace bmatch
