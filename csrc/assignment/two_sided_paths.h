// Shortest augmenting paths over whole rows, from free rows and from free columns in turns.
//
// Where most rows lie on one plateau of equal costs, paths from rows come through most of them, and
// paths from columns through a few, or the other way round.  Neither side need know: each goes on
// from where the other stopped, with several times as many reads as it had before, so that all
// paths together read at most a few times as much as those of the better side.
//
// At a turn the duals of one side become the prices of the other.  Those of matched rows and
// columns are c_ij minus the other's dual, those of free ones their least reduced cost.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "assignment/rows/row_scanner.h"
#include "context.h"
#include "dense_paths.h"

namespace bmatch {

// The same matching with columns as rows.
Matching turned(const Context& context);

// For square matrices.
class TwoSidedPaths {
 public:
  explicit TwoSidedPaths(const Context& context) : context_(context) {}

  // Paths for all rows that `rows`, of the same context, leaves free: `first` reads from there, and
  // at most `most` in all.  They hurry as in dense_paths.h.  If a copy of the columns would be too
  // large they are all from rows.
  Step augment_all(DensePaths& rows, std::int64_t first, std::int64_t most, bool hurries = false);

  // Whether any were from columns.
  bool has_turned() const { return columns_ != nullptr; }

  // As in dense_paths.h.
  const std::vector<Index>& trapped() const { return trapped_; }

 private:
  // So many reads, but few of them if they bring few paths to an end.
  Step first_turn(DensePaths& rows, std::int64_t reads);
  Step from_rows(DensePaths& rows, std::int64_t reads, bool hurries);
  Step from_columns(std::int64_t reads, bool hurries);

  const Context& context_;
  std::unique_ptr<RowScanner> columns_;  // once they are wanted
  std::vector<Index> trapped_;
};

}  // namespace bmatch
