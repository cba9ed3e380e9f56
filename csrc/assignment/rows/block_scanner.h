// Rows of a matrix that never exists, which somebody else makes in blocks.
//
// A block is always asked for whole, with the same first row and as many rows, so that whatever
// makes it (a matrix product, whose rounding may depend on its shape) gives the same bits whenever
// one of its rows is read.  Blocks that were read last are kept, up to a budget.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "row_scanner.h"

namespace bmatch {

// Makes the entries [count, cols] of rows first, first + 1, ...  Called by one thread at a time;
// does not throw.
using MakeBlock = std::function<void(Index first, Index count, double* out)>;

class BlockScanner final : public RowScanner {
 public:
  // Rows [block] at a time; keeps up to `bytes` of them, and two blocks at least.
  BlockScanner(Index rows, Index cols, Index block, Sense sense, std::int64_t bytes,
               MakeBlock make);

  Index rows() const override { return rows_; }
  Index cols() const override { return cols_; }
  StoredRow row(Index i, double* room) const override;
  double cost(Index i, Index j) const override;
  AnyCostView whole() const override;
  std::int64_t effort() const override { return 16; }

 private:
  struct Block {
    Index number;
    std::vector<double> entries;  // [block, cols]
  };
  const double* require(Index i) const;

  const Index rows_, cols_, block_;
  const Sense sense_;
  const CostBits<double> bits_;
  const std::size_t most_;  // blocks
  const MakeBlock make_;
  mutable std::mutex guard_;
  mutable std::list<Block> kept_;  // what was read last first
  mutable std::unordered_map<Index, std::list<Block>::iterator> at_;
  mutable ReusedVector<double> copy_;  // [rows, cols], for the small solver
};

}  // namespace bmatch
