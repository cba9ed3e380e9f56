#include "costs.h"

#include <limits>

namespace bmatch::sparse {
namespace {

struct Entry {
  double value;
  Index col;
};

bool by_col(const Entry& a, const Entry& b) { return a.col < b.col; }
bool by_value(const Entry& a, const Entry& b) {
  return a.value != b.value ? a.value < b.value : a.col < b.col;
}

double minimised(double value, Sense sense) {
  switch (sense) {
    case Sense::minimize:
      return value;
    case Sense::maximize:
      return -value;
    case Sense::maximize_magnitude:
      return -std::fabs(value);
  }
  return value;
}

}  // namespace

void arrange(Costs& costs, const Terms& terms, Invalid& invalid) {
  const bool magnitudes = terms.sense == Sense::maximize_magnitude;
  if (magnitudes) costs.negative.resize(costs.cost.size());
  std::vector<Entry> row;
  std::vector<std::uint8_t> negative(magnitudes ? costs.cols : 0, 0);
  const Index cols = costs.given_cols();
  Position kept = 0;
  for (Index i = 0; i < costs.rows; ++i) {
    row.clear();
    bool ascending = true;
    for (Position k = costs.start[i]; k < costs.start[i + 1]; ++k) {
      ascending = ascending && (row.empty() || row.back().col < costs.col[k]);
      row.push_back({costs.cost[k], costs.col[k]});
    }
    if (!ascending) {
      std::stable_sort(row.begin(), row.end(), by_col);
      std::size_t last = 0;
      for (std::size_t k = 1; k < row.size(); ++k) {
        if (row[k].col == row[last].col)
          row[last].value += row[k].value;
        else
          row[++last] = row[k];
      }
      row.resize(last + 1);
    }
    std::size_t allowed = 0;
    for (const Entry& entry : row) {
      if (entry.col >= cols) {  // the row's own
        row[allowed++] = entry;
        continue;
      }
      const double value = minimised(entry.value, terms.sense);
      if (value == kInfinity || value > terms.limit ||
          (terms.nonfinite_forbid && !std::isfinite(value)))
        continue;
      if (!(value > -kInfinity)) {
        const std::int64_t place = terms.transposed ? std::int64_t{entry.col} * costs.rows + i
                                                    : std::int64_t{i} * cols + entry.col;
        ++invalid.count;
        invalid.first = std::min(invalid.first, place);
        continue;
      }
      if (magnitudes) negative[entry.col] = entry.value < 0.0;
      row[allowed++] = {value, entry.col};
    }
    row.resize(allowed);
    std::sort(row.begin(), row.end(), by_value);
    costs.start[i] = kept;
    for (const Entry& entry : row) {
      costs.cost[kept] = entry.value;
      costs.col[kept] = entry.col;
      if (magnitudes) costs.negative[kept] = negative[entry.col];
      ++kept;
    }
  }
  costs.start[costs.rows] = kept;
  costs.cost.resize(kept);
  costs.col.resize(kept);
  if (magnitudes) costs.negative.resize(kept);
}

}  // namespace bmatch::sparse
