#include "column_scanner.h"

#include <algorithm>
#include <type_traits>

#include "assignment/policy.h"
#include "turned_lines.h"

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
  copy_ = ReusedVector<std::byte>(item * static_cast<std::size_t>(costs.rows()) *
                                  static_cast<std::size_t>(costs.cols()));
}

template <typename T>
void ColumnScanner::require(Index j) const {
  if (here_[j / block_]) return;
  here_[j / block_] = 1;
  const std::int64_t n = costs_.rows();
  const Index begin = j / block_ * block_, end = std::min(begin + block_, costs_.cols());
  T* const out = copy<T>();
  // A few columns at a time, as in packed.h.
  constexpr Index kCols = 8, kRows = 64;
  const Index rows = is_made(first_, scratch_.row()) ? kGroup : kRows;
  for (Index i0 = 0; i0 < n; i0 += rows) {
    const Index count = std::min<Index>(rows, static_cast<Index>(n) - i0);
    const T* lines[kRows];
    for (Index k = 0; k < count; ++k) {
      lines[k] = std::get<const T*>(costs_.row(i0 + k, scratch_.row(k % kGroup)).entries) + begin;
    }
    for (Index j0 = begin; j0 < end; j0 += kCols) {
      turn_lines(lines, count, std::min(kCols, end - j0), out + j0 * n + i0, n);
      for (Index k = 0; k < count; ++k) lines[k] += kCols;
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
