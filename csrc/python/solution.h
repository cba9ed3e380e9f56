// What the solver on the host finds, as Python reads it, and what it is asked.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "arrays.h"
#include "assignment/margin.h"
#include "assignment/solver.h"

namespace bmatch::python {

// A Solution as Python reads it.
struct SolutionArrays {
  Outcome outcome;
  py::array_t<std::int64_t> col_of_row;
  py::array_t<double> row_dual, col_dual;
  double objective, gap;
  py::array_t<std::int64_t> trapped;
  py::dict stats;
};

inline py::dict to_dict(const Stats& stats, std::size_t rows) {
  py::dict d;
  d["passes"] = rows == 0 ? 0.0 : static_cast<double>(stats.row_reads) / rows;
  d["bids"] = stats.bids;
  d["augmentations"] = stats.augmentations;
  d["rescans"] = stats.rescans;
  d["first_pass_seconds"] = stats.first_pass_seconds;
  d["auction_seconds"] = stats.auction_seconds;
  d["path_seconds"] = stats.path_seconds;
  d["certificate_seconds"] = stats.certificate_seconds;
  return d;
}

inline SolutionArrays to_arrays(Solution s) {
  if (s.outcome == Outcome::interrupted) throw py::error_already_set();
  s.matching.v.resize(s.matching.row_of_col.size());  // without the padding
  return {s.outcome,
          to_indexes(s.matching.col_of_row),
          to_array(s.u),
          to_array(s.matching.v),
          s.objective,
          s.gap,
          to_indexes(s.trapped),
          to_dict(s.stats, s.matching.col_of_row.size())};
}

using Prices = std::optional<Array<double>>;

inline std::optional<std::vector<double>> copied(const Prices& prices) {
  if (!prices) return std::nullopt;
  return to_vector(*prices);
}

inline Options options_of(int threads, bool certificate,
                          const std::optional<std::vector<double>>& prices, bool transposed) {
  Options options;
  options.threads = threads;
  options.certificate = certificate;
  options.prices = prices ? &*prices : nullptr;
  options.transposed = transposed;
  return options;
}

// A matching and its prices; no Python is called.
inline Matching matching_of(const RowScanner& costs, const Array<std::int64_t>& col_of_row,
                            const Array<double>& col_dual) {
  Matching matching(costs.rows(), costs.cols());
  std::copy_n(col_dual.data(), costs.cols(), matching.v.begin());
  for (Index i = 0; i < costs.rows(); ++i) {
    matching.match(i, static_cast<Index>(col_of_row.data()[i]));
  }
  return matching;
}

// (loss, exact)
inline py::tuple to_arrays(const Margins& found, py::ssize_t rows) {
  if (found.loss.empty() && rows > 0) throw py::error_already_set();
  py::array_t<bool> exact(static_cast<py::ssize_t>(found.exact.size()));
  std::copy(found.exact.begin(), found.exact.end(), exact.mutable_data());
  return py::make_tuple(to_array(found.loss), std::move(exact));
}

}  // namespace bmatch::python
