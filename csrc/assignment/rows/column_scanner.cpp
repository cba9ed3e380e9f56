#include "column_scanner.h"

#include <algorithm>
#include <type_traits>

#include "assignment/policy.h"

namespace bmatch {
namespace {

constexpr Index kBlock = 16;  // a cache line of float32, two of float64

// Entries of one row, made in the room where they do not lie in memory.
bool is_made(const StoredRow& row, const double* room) {
  return std::visit([&](const auto* entries) { return static_cast<const void*>(entries) == room; },
                    row.entries);
}

}  // namespace

bool has_columns(const RowScanner& costs) {
  if (costs.columns() != nullptr) return true;
  RowScanner::Scratch scratch = costs.scratch();
  const bool made = is_made(costs.row(0, scratch.row()), scratch.row());
  return std::int64_t{costs.rows()} * costs.cols() <= (made ? kMostMade : kMostCopied);
}

std::unique_ptr<RowScanner> columns_of(const RowScanner& costs, bool* copied) {
  std::unique_ptr<RowScanner> columns = costs.columns();
  if (copied != nullptr) *copied = columns == nullptr;
  if (columns == nullptr) columns = std::make_unique<ColumnScanner>(costs);
  return columns;
}

ColumnScanner::ColumnScanner(const RowScanner& costs)
    : costs_(costs),
      scratch_(costs.scratch()),
      first_(costs.row(0, scratch_.row())),
      block_(is_made(first_, scratch_.row()) ? costs.cols() : kBlock),
      here_((costs.cols() + block_ - 1) / block_, 0) {
  const std::size_t item = std::holds_alternative<const float*>(first_.entries) ? 4 : 8;
  copy_.reset(new std::byte[item * static_cast<std::size_t>(costs.rows()) *
                            static_cast<std::size_t>(costs.cols())]);
}

template <typename T>
void ColumnScanner::require(Index j) const {
  if (here_[j / block_]) return;
  here_[j / block_] = 1;
  const std::int64_t n = costs_.rows();
  const Index begin = j / block_ * block_, end = std::min(begin + block_, costs_.cols());
  T* const out = copy<T>();
  constexpr Index kRows = 64, kCols = 8;  // at a time; see packed.h
  for (Index i0 = 0; i0 < n; i0 += kRows) {
    const Index i1 = std::min<Index>(i0 + kRows, static_cast<Index>(n));
    for (Index j0 = begin; j0 < end; j0 += kCols) {
      const Index j1 = std::min(j0 + kCols, end);
      for (Index i = i0; i < i1; ++i) {
        const T* const entries = std::get<const T*>(costs_.row(i, scratch_.row()).entries);
        for (Index k = j0; k < j1; ++k) out[k * n + i] = entries[k];
      }
    }
  }
}

StoredRow ColumnScanner::row(Index j, double*) const {
  return std::visit(
      [&](const auto* entries) -> StoredRow {
        using T = std::remove_cv_t<std::remove_pointer_t<decltype(entries)>>;
        require<T>(j);
        return {static_cast<const T*>(copy<T>()) + std::int64_t{j} * costs_.rows(), first_.sense};
      },
      first_.entries);
}

AnyCostView ColumnScanner::whole() const {
  return std::visit(
      [&](const auto* entries) -> AnyCostView {
        using T = std::remove_cv_t<std::remove_pointer_t<decltype(entries)>>;
        for (Index j = 0; j < rows(); ++j) require<T>(j);
        return CostView<T>{copy<T>(), rows(), cols(), cols(), 1, first_.sense};
      },
      first_.entries);
}

}  // namespace bmatch
