#include "block_scanner.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace bmatch {

BlockScanner::BlockScanner(Index rows, Index cols, Index block, Sense sense, std::int64_t bytes,
                           MakeBlock make)
    : rows_(rows),
      cols_(cols),
      block_(block),
      sense_(sense),
      bits_(sense),
      most_(static_cast<std::size_t>(std::max<std::int64_t>(
          2, bytes / std::max<std::int64_t>(8 * std::int64_t{block} * cols, 1)))),
      make_(std::move(make)) {}

// The entries of row i; the guard is held.
const double* BlockScanner::require(Index i) const {
  const Index number = i / block_;
  if (const auto found = at_.find(number); found != at_.end()) {
    kept_.splice(kept_.begin(), kept_, found->second);
  } else {
    if (kept_.size() < most_) {
      kept_.push_front({number, std::vector<double>(static_cast<std::size_t>(block_) *
                                                    static_cast<std::size_t>(cols_))});
    } else {
      kept_.splice(kept_.begin(), kept_, std::prev(kept_.end()));
      at_.erase(kept_.front().number);
      kept_.front().number = number;
    }
    at_[number] = kept_.begin();
    const Index first = number * block_;
    make_(first, std::min(block_, rows_ - first), kept_.front().entries.data());
  }
  return kept_.front().entries.data() + std::int64_t{i % block_} * cols_;
}

StoredRow BlockScanner::row(Index i, double* room) const {
  const std::lock_guard<std::mutex> lock(guard_);
  std::copy_n(require(i), cols_, room);
  return {room, sense_};
}

double BlockScanner::cost(Index i, Index j) const {
  const std::lock_guard<std::mutex> lock(guard_);
  return bits_(require(i)[j]);
}

AnyCostView BlockScanner::whole() const {
  const std::int64_t wide = cols_;
  copy_ = ReusedVector<double>(static_cast<std::size_t>(rows_ * wide));
  for (Index i = 0; i < rows_; ++i) row(i, copy_.data() + i * wide);
  return CostView<double>{copy_.data(), rows_, cols_, wide, 1, sense_};
}

}  // namespace bmatch
