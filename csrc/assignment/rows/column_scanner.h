// The columns of a matrix as rows, for searches that begin at its columns.
//
// A column is copied when it is first read, with those beside it that share its cache lines; memory
// to which nothing was copied is not touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "row_scanner.h"

namespace bmatch {

// One thread at a time may read it, though its methods are const.
class ColumnScanner final : public RowScanner {
 public:
  explicit ColumnScanner(const RowScanner& costs);

  Index rows() const override { return costs_.cols(); }
  Index cols() const override { return costs_.rows(); }
  StoredRow row(Index j, double* room) const override;
  double cost(Index j, Index i) const override { return costs_.cost(i, j); }
  AnyCostView whole() const override;

 private:
  template <typename T>
  T* copy() const {
    return reinterpret_cast<T*>(copy_.data());
  }
  template <typename T>
  void require(Index j) const;

  const RowScanner& costs_;
  mutable Scratch scratch_;
  const StoredRow first_;                   // for the type of the entries
  const Index block_;                       // columns copied at a time
  mutable ReusedVector<std::byte> copy_;    // [cols, rows]
  mutable std::vector<std::uint8_t> here_;  // [blocks]
};

// Whether there are columns: where the matrix makes them itself, or is small enough to be copied.
// One whose rows lie in memory may be larger than one whose rows are made, by whoever has no room
// for a copy.
bool has_columns(const RowScanner& costs);

// The columns as rows; `copied`, if given, becomes whether they are.
std::unique_ptr<RowScanner> columns_of(const RowScanner& costs, bool* copied = nullptr);

}  // namespace bmatch
