#include "margin.h"

#include <algorithm>

namespace bmatch {
namespace {

// For each matched column, the cheapest way to fill or to spare it without its own row.
std::vector<double> cheapest_entry(const RowScanner& costs, const Matching& m,
                                   const std::vector<double>& u) {
  const Index rows = costs.rows(), cols = costs.cols();
  std::vector<double> entry(cols, kInfinity);
  RowScanner::Scratch scratch = costs.scratch();
  for (Index i = 0; i < rows; ++i) {
    const double* cost = costs.row_costs(i, scratch);
    const Index own = m.col_of_row[i];
    const double kept = entry[own];
    for (Index j = 0; j < cols; ++j) {
      entry[j] = std::min(entry[j], (cost[j] - m.v[j]) - u[i]);
    }
    entry[own] = kept;
  }
  for (Index j = 0; j < cols; ++j) {
    if (rows < cols) entry[j] = std::min(entry[j], -m.v[j]);
    entry[j] = std::max(entry[j], 0.0);  // rounding
  }
  return entry;
}

}  // namespace

Margins margins(const RowScanner& costs, const Matching& m, const std::vector<double>& u,
                std::int64_t search_limit, const Interrupted& interrupted) {
  const Index rows = costs.rows(), cols = costs.cols();
  const std::vector<double> entry = cheapest_entry(costs, m, u);
  Margins result{std::vector<double>(rows), std::vector<unsigned char>(rows)};
  std::vector<double> distance(cols);
  RowScanner::Scratch scratch = costs.scratch();
  std::vector<unsigned char> settled(cols);

  for (Index i = 0; i < rows; ++i) {
    if (interrupted()) return {};
    const Index home = m.col_of_row[i];
    std::fill(distance.begin(), distance.end(), kInfinity);
    std::fill(settled.begin(), settled.end(), 0);
    double best = kInfinity;  // the shortest cycle found so far
    double bound = 0.0;       // what every cycle not yet found costs at least
    double at = 0.0;          // distance of the row being read
    bool spares_read = false;
    std::int64_t reads = 0;
    for (Index row = i; reads < search_limit; ++reads) {
      if (row == kNone) {  // the spare rows: cost 0 and dual 0 everywhere
        spares_read = true;
        for (Index j = 0; j < cols; ++j) {
          if (!settled[j]) distance[j] = std::min(distance[j], at - m.v[j]);
        }
      } else {
        const double* cost = costs.row_costs(row, scratch);
        for (Index j = 0; j < cols; ++j) {
          const double step = std::max((cost[j] - m.v[j]) - u[row], 0.0);
          if (!settled[j]) distance[j] = std::min(distance[j], at + step);
        }
      }
      if (row == i) {
        distance[home] = kInfinity;  // the edge that is given up
      } else {
        best = std::min(best, distance[home]);
      }
      // Next: the nearest column, to displace the row that holds it.
      Index nearest = kNone;
      at = kInfinity;
      for (Index j = 0; j < cols; ++j) {
        if (settled[j] || j == home || distance[j] >= at) continue;
        if (spares_read && m.row_of_col[j] == kNone) continue;
        at = distance[j];
        nearest = j;
      }
      bound = at + entry[home];
      if (nearest == kNone || bound >= best) break;
      settled[nearest] = 1;
      row = m.row_of_col[nearest];
    }
    result.exact[i] = best <= bound;
    result.loss[i] = std::min(best, bound);
  }
  return result;
}

}  // namespace bmatch
