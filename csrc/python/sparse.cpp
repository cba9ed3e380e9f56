// The sparse solver: entries in, arrays out.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "arrays.h"
#include "assignment/sparse/partial.h"
#include "module.h"
#include "signal_poll.h"

namespace bmatch::python {
namespace {

struct SparseSolution {
  Outcome outcome;
  py::array_t<std::int64_t> col_of_row;
  py::array_t<double> row_dual, col_dual;
  double objective, gap;
  py::array_t<std::int64_t> trapped;
  py::array_t<bool> negative;
  std::int64_t invalid, first_invalid;
  py::dict stats;
};

// Calls f with the typed addresses of the entries.
template <typename F>
auto with_types_of(const py::array& indices, const py::array& data, F f) {
  const auto with_data = [&](auto index) {
    using I = decltype(index);
    const auto* at = static_cast<const I*>(indices.data());
    if (py::isinstance<py::array_t<float>>(data)) {
      return f(at, static_cast<const float*>(data.data()));
    }
    return f(at, static_cast<const double*>(data.data()));
  };
  if (py::isinstance<py::array_t<std::int32_t>>(indices)) return with_data(std::int32_t{});
  return with_data(std::int64_t{});
}

SparseSolution solve_costs(const sparse::Costs& costs, const sparse::Invalid& invalid, bool most) {
  const std::int64_t wrong = invalid.count;
  sparse::Solution s = [&] {
    const py::gil_scoped_release release;
    if (wrong > 0) {
      return sparse::Solution{Outcome::invalid, Matching(0, 0), {}, {}, 0.0, 0.0, {}, {}};
    }
    return most ? sparse::solve_most(costs, SignalPoll()) : sparse::solve(costs, SignalPoll());
  }();
  if (s.outcome == Outcome::interrupted) throw py::error_already_set();
  s.matching.v.resize(s.matching.row_of_col.size());  // without the padding
  std::vector<std::uint8_t> negative;
  if (s.outcome == Outcome::optimal && !costs.negative.empty()) {
    for (const sparse::Position at : s.entry) negative.push_back(costs.negative[at]);
  }
  py::array_t<bool> signs(static_cast<py::ssize_t>(negative.size()));
  std::copy(negative.begin(), negative.end(), signs.mutable_data());
  py::dict stats;
  stats["passes"] = 0.0;
  stats["bids"] = s.stats.bids;
  stats["augmentations"] = s.stats.augmentations;
  stats["rescans"] = s.stats.rescans;
  stats["first_pass_seconds"] = s.stats.first_pass_seconds;
  stats["auction_seconds"] = s.stats.auction_seconds;
  stats["path_seconds"] = s.stats.path_seconds;
  stats["certificate_seconds"] = s.stats.certificate_seconds;
  return {s.outcome,
          to_indexes(s.matching.col_of_row),
          to_array(s.u),
          to_array(s.matching.v),
          s.objective,
          s.gap,
          to_indexes(s.trapped),
          std::move(signs),
          invalid.count,
          invalid.first,
          std::move(stats)};
}

SparseSolution solve_compressed(std::int64_t rows, std::int64_t cols,
                                const Array<std::int64_t>& start, const py::array& indices,
                                const py::array& data, Sense sense, bool by_columns,
                                bool transposed, bool forbid, double limit, bool most) {
  sparse::Invalid invalid;
  const std::int64_t* const begin = start.data();
  const std::int64_t majors = start.size() - 1;
  const auto costs = with_types_of(indices, data, [&](const auto* minor, const auto* value) {
    const py::gil_scoped_release release;
    const sparse::Terms terms{sense, transposed, forbid, limit};
    return sparse::make_costs(
        static_cast<Index>(rows), static_cast<Index>(cols), terms,
        [&](auto f) {
          for (std::int64_t i = 0; i < majors; ++i) {
            for (std::int64_t k = begin[i]; k < begin[i + 1]; ++k) {
              if (by_columns)
                f(minor[k], i, value[k]);
              else
                f(i, minor[k], value[k]);
            }
          }
        },
        invalid);
  });
  return solve_costs(costs, invalid, most);
}

SparseSolution solve_coordinates(std::int64_t rows, std::int64_t cols, const py::array& row,
                                 const py::array& col, const py::array& data, Sense sense,
                                 bool transposed, bool forbid, double limit, bool most) {
  sparse::Invalid invalid;
  const std::int64_t count = data.size();
  const auto costs = with_types_of(row, data, [&](const auto* i, const auto* value) {
    const auto* j = static_cast<decltype(i)>(col.data());
    const py::gil_scoped_release release;
    const sparse::Terms terms{sense, transposed, forbid, limit};
    return sparse::make_costs(
        static_cast<Index>(rows), static_cast<Index>(cols), terms,
        [&](auto f) {
          for (std::int64_t k = 0; k < count; ++k) f(i[k], j[k], value[k]);
        },
        invalid);
  });
  return solve_costs(costs, invalid, most);
}

}  // namespace

void define_sparse(py::module_& m) {
  py::class_<SparseSolution>(m, "SparseSolution", "An answer, in terms of the minimised costs.")
      .def_readonly("outcome", &SparseSolution::outcome)
      .def_readonly("col_of_row", &SparseSolution::col_of_row)
      .def_readonly("row_dual", &SparseSolution::row_dual)
      .def_readonly("col_dual", &SparseSolution::col_dual)
      .def_readonly("objective", &SparseSolution::objective)
      .def_readonly("gap", &SparseSolution::gap)
      .def_readonly("trapped", &SparseSolution::trapped,
                    "If infeasible: rows that compete for too few columns.")
      .def_readonly("negative", &SparseSolution::negative,
                    "Where magnitudes are matched: rows whose matched entry was below zero.")
      .def_readonly("invalid", &SparseSolution::invalid, "How many entries are no costs.")
      .def_readonly("first_invalid", &SparseSolution::first_invalid,
                    "Of these the first, at row * columns + column of the matrix given.")
      .def_readonly("stats", &SparseSolution::stats);
  m.def("solve_compressed", &solve_compressed, py::arg("rows"), py::arg("cols"), py::arg("start"),
        py::arg("indices"), py::arg("data"), py::arg("sense"), py::arg("by_columns"),
        py::arg("transposed"), py::arg("forbid"), py::arg("limit"), py::arg("most"),
        "Solves a sparse matrix [rows, cols] whose rows, or columns, are side by side. transposed: "
        "the caller's rows are the columns. forbid: entries that are not finite are no pairs. "
        "limit: of the minimised costs, at which rows stay out. most: without a limit, as many "
        "pairs as possible.");
  m.def("solve_coordinates", &solve_coordinates, py::arg("rows"), py::arg("cols"), py::arg("row"),
        py::arg("col"), py::arg("data"), py::arg("sense"), py::arg("transposed"), py::arg("forbid"),
        py::arg("limit"), py::arg("most"), "The same from entries in any order.");
}

}  // namespace bmatch::python
