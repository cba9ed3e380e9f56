#include "fetched_scanner.h"

#include <algorithm>
#include <numeric>

#include "assignment/policy.h"

namespace bmatch {

template <typename T>
FetchedScanner<T>::FetchedScanner(const CostView<T>& copy, const FirstPass& first, Fetch fetch)
    : DenseScanner<T>(copy),
      first_(first),
      fetch_(std::move(fetch)),
      here_(new std::atomic<bool>[static_cast<std::size_t>(copy.rows)]()) {}

// Sees to it that these rows are here.
template <typename T>
void FetchedScanner<T>::require(const Index* rows, int count) const {
  auto missing = [this](Index i) { return !here_[i].load(std::memory_order_acquire); };
  if (std::none_of(rows, rows + count, missing)) return;
  const std::lock_guard<std::mutex> lock(guard_);
  std::vector<Index> wanted;
  std::copy_if(rows, rows + count, std::back_inserter(wanted), missing);
  if (wanted.empty()) return;
  if (kFetchAllAfter * (fetched_ + static_cast<Index>(wanted.size())) > this->rows()) {
    wanted.clear();
    for (Index i = 0; i < this->rows(); ++i) {
      if (missing(i)) wanted.push_back(i);
    }
  }
  fetch_(wanted);
  fetched_ += static_cast<Index>(wanted.size());
  for (const Index i : wanted) here_[i].store(true, std::memory_order_release);
}

template <typename T>
StoredRow FetchedScanner<T>::row(Index i, double* room) const {
  require(&i, 1);
  return DenseScanner<T>::row(i, room);
}

template <typename T>
double FetchedScanner<T>::cost(Index i, Index j) const {
  const std::int64_t at = std::int64_t{kListCapacity} * i;
  for (std::int64_t k = at; k < at + kListCapacity && first_.list_cost[k] < kInfinity; ++k) {
    if (first_.list_col[k] == j) return first_.list_cost[k];
  }
  require(&i, 1);
  return DenseScanner<T>::cost(i, j);
}

template <typename T>
AnyCostView FetchedScanner<T>::whole() const {
  std::vector<Index> all(this->rows());
  std::iota(all.begin(), all.end(), 0);
  require(all.data(), this->rows());
  return DenseScanner<T>::whole();
}

template <typename T>
void FetchedScanner<T>::minima(Index first, int count, RowMinima* out, Scratch&) const {
  std::copy_n(first_.minima + first, count, out);
}

// The device's list, if it tells the best of the row at these prices.
template <typename T>
bool FetchedScanner<T>::listed(Index i, PriceView prices, CandidateRow& out) const {
  const double* const cost = first_.list_cost + std::int64_t{kListCapacity} * i;
  const Index* const col = first_.list_col + std::int64_t{kListCapacity} * i;
  const auto used = static_cast<int>(std::find(cost, cost + kListCapacity, kInfinity) - cost);
  double best = kInfinity;
  for (int k = 0; k < used; ++k) {
    best = std::min(best, cost[k] - (prices.v == nullptr ? 0.0 : prices.v[col[k]]));
  }
  if (best > first_.bound[i]) return false;
  std::copy_n(cost, kListCapacity, out.cost);
  std::copy_n(col, used, out.col);
  std::fill(out.col + used, out.col + kListCapacity, 0);
  out.size = std::max(used, 1);
  out.bound = first_.bound[i];
  out.valid = first_.minima[i].valid;
  return true;
}

template <typename T>
void FetchedScanner<T>::candidates(const Index* rows, int count, PriceView prices,
                                   CandidateRow* out, Scratch& scratch) const {
  std::vector<Index> unlisted;
  std::vector<int> places;
  for (int k = 0; k < count; ++k) {
    if (listed(rows[k], prices, out[k])) continue;
    unlisted.push_back(rows[k]);
    places.push_back(k);
  }
  if (unlisted.empty()) return;
  const auto left = static_cast<int>(unlisted.size());
  require(unlisted.data(), left);
  std::vector<CandidateRow> made;
  for (const int k : places) made.push_back(out[k]);
  RowScanner::candidates(unlisted.data(), left, prices, made.data(), scratch);
  for (int k = 0; k < left; ++k) out[places[k]] = made[k];
}

template class FetchedScanner<float>;
template class FetchedScanner<double>;

}  // namespace bmatch
