#include "row_scanner.h"

#include <algorithm>

namespace bmatch {

// f(entries, bits, scans) of row i in its own type.
template <typename F>
auto RowScanner::scan(Index i, Scratch& scratch, F f) const {
  const StoredRow stored = row(i, scratch.row());
  return std::visit(
      [&](const auto* entries) {
        using T = std::remove_cv_t<std::remove_pointer_t<decltype(entries)>>;
        return f(entries, CostBits<T>(stored.sense), kernels_.scans<T>());
      },
      stored.entries);
}

// f(group, bits, scans) of the first at_once() of the rows, and of where the next ones lie; after
// the last, those behind them if the rows follow one another as in a pass.
template <typename F>
void RowScanner::scan_group(const Index* rows, int count, Scratch& scratch, F f) const {
  scan(rows[0], scratch, [&](const auto* entries, auto bits, const auto& scans) {
    using T = std::remove_cv_t<std::remove_pointer_t<decltype(entries)>>;
    const bool pass = count >= kGroup && rows[kGroup - 1] == rows[0] + kGroup - 1;
    const Index last = this->rows() - 1;
    RowGroup<T> group{};
    group.count = std::min(count, at_once());
    for (int k = 0; k < group.count; ++k) {
      group.index[k] = rows[k];
      group.row[k] = k == 0 ? entries : std::get<const T*>(row(rows[k], scratch.row(k)).entries);
      const Index behind = pass ? std::min(rows[k] + kGroup, last) : rows[k];
      const Index next = k + kGroup < count ? rows[k + kGroup] : behind;
      group.ahead[k] =
          first_ == nullptr ? group.row[k] : reinterpret_cast<const T*>(first_ + next * pitch_);
    }
    f(group, bits, scans);
  });
}

void RowScanner::minima(Index first, int count, RowMinima* out, Scratch& scratch) const {
  for (int k = 0; k < count; k += at_once()) {
    const Index i = first + k;
    const Index rows[] = {i, i + 1, i + 2, i + 3};
    scan_group(rows, std::min(count - k, kGroup), scratch,
               [&](const auto& group, auto bits, const auto& scans) {
                 scans.minima(group, cols(), bits, scratch.cells(), out + k);
               });
  }
}

void RowScanner::candidates(const Index* rows, int count, PriceView prices, CandidateRow* out,
                            Scratch& scratch) const {
  for (int k = 0; k < count; k += at_once()) {
    scan_group(rows + k, count - k, scratch, [&](const auto& group, auto bits, const auto& scans) {
      scans.candidates(group, cols(), bits, prices, scratch.cells(), out + k);
    });
  }
}

BestTwo RowScanner::best_two(Index i, const double* v, const std::uint8_t* free,
                             Scratch& scratch) const {
  return scan(i, scratch, [&](const auto* entries, auto bits, const auto& scans) {
    return scans.best_two(entries, cols(), bits, v, free);
  });
}

Claim RowScanner::claim(Index i, const double* v, const std::uint8_t* free,
                        Scratch& scratch) const {
  return scan(i, scratch, [&](const auto* entries, auto bits, const auto& scans) {
    return scans.claim(entries, cols(), bits, v, free);
  });
}

void RowScanner::relax(Index i, double base, PathState& state, Scratch& scratch) const {
  scan(i, scratch, [&](const auto* entries, auto bits, const auto& scans) {
    scans.relax(entries, cols(), bits, i, base, state);
  });
}

void RowScanner::lower(Index i, double u, double* least, Scratch& scratch) const {
  scan(i, scratch, [&](const auto* entries, auto bits, const auto& scans) {
    scans.lower(entries, cols(), bits, u, least);
  });
}

bool RowScanner::is_plateau(Index i, double least, Scratch& scratch) const {
  return scan(i, scratch, [&](const auto* entries, auto bits, const auto& scans) {
    return scans.is_plateau(entries, cols(), bits, least);
  });
}

Greatest RowScanner::greatest(Index i, const double* v, Scratch& scratch) const {
  return scan(i, scratch, [&](const auto* entries, auto bits, const auto& scans) {
    return scans.greatest(entries, cols(), bits, v);
  });
}

double RowScanner::exceeded_by_most(Index i, const double* v, Index wanted, double* least,
                                    Scratch& scratch) const {
  return scan(i, scratch, [&](const auto* entries, auto bits, const auto& scans) {
    return scans.exceeded_by_most(entries, cols(), bits, v, wanted, least);
  });
}

Index RowScanner::below(Index i, const double* v, double limit, Index most, double* cost,
                        Index* col, Scratch& scratch) const {
  return scan(i, scratch, [&](const auto* entries, auto bits, const auto& scans) {
    return scans.below(entries, cols(), bits, v, limit, most, cost, col);
  });
}

double RowScanner::least_error(Index i, const double* v, double u, Scratch& scratch) const {
  return scan(i, scratch, [&](const auto* entries, auto bits, const auto& scans) {
    return scans.least_error(entries, cols(), bits, v, u);
  });
}

bool RowScanner::on_grid(Index i, double grid, Scratch& scratch) const {
  return scan(i, scratch, [&](const auto* entries, auto bits, const auto& scans) {
    return scans.on_grid(entries, cols(), bits, grid);
  });
}

const double* RowScanner::row_costs(Index i, Scratch& scratch) const {
  const StoredRow stored = row(i, scratch.row());
  const auto* const own = std::get_if<const double*>(&stored.entries);
  if (own != nullptr && stored.sense == Sense::minimize) return *own;
  double* const out = scratch.row(1);  // the first may hold what is read
  std::visit(
      [&](const auto* entries) {
        const CostBits<std::remove_cv_t<std::remove_pointer_t<decltype(entries)>>> bits(
            stored.sense);
        for (Index j = 0; j < cols(); ++j) out[j] = static_cast<double>(bits(entries[j]));
      },
      stored.entries);
  return out;
}

}  // namespace bmatch
