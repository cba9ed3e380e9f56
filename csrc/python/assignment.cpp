// The assignment solver on the host: arrays in, arrays out.
#include <pybind11/native_enum.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "arrays.h"
#include "assignment/batch.h"
#include "assignment/partial.h"
#include "assignment/rows/fetched_scanner.h"
#include "assignment/rows/packed.h"
#include "assignment/solver.h"
#include "module.h"
#include "signal_poll.h"
#include "solution.h"

namespace bmatch::python {
namespace {

// Calls f without the GIL, with a scanner of an array's rows.
template <typename F>
auto with_scanner(const py::array& cost, Sense sense, F f) {
  return with_type_of(cost, [&](auto number) {
    const auto view = view_of<decltype(number)>(cost, sense);
    const py::gil_scoped_release release;
    return with_scanner_of(view, f);
  });
}

SolutionArrays solve_array(const py::array& cost, Sense sense, int threads, bool certificate,
                           const Prices& prices, bool transposed, double limit, bool most,
                           std::int64_t small) {
  const auto start = copied(prices);
  Options options = options_of(threads, certificate, start, transposed);
  options.small = small;
  return to_arrays(with_scanner(cost, sense, [&](const RowScanner& scanner) {
    return solve_partial(scanner, {limit, most}, options, SignalPoll());
  }));
}

// Rows that `fetch(rows)` puts into `copy` when they are wanted.
template <typename T>
SolutionArrays solve_fetched_of(const CostView<T>& copy, const FirstPass& first,
                                const py::function& fetch, const Partial& partial,
                                const Options& options) {
  // Threads of the solver must not see an exception: the solve ends as if it were interrupted.
  std::atomic<bool> failed{false};
  std::unique_ptr<py::error_already_set> error;
  const FetchedScanner<T> scanner(copy, first, [&](const std::vector<Index>& rows) {
    if (failed) return;
    const py::gil_scoped_acquire gil;
    try {
      fetch(to_indexes(rows));
    } catch (py::error_already_set& raised) {
      error = std::make_unique<py::error_already_set>(raised);
      failed = true;
    }
  });
  SignalPoll poll;
  Solution s = [&] {
    const py::gil_scoped_release release;
    return solve_partial(scanner, partial, options, [&] { return failed || poll(); });
  }();
  if (error != nullptr) throw py::error_already_set(*error);
  return to_arrays(std::move(s));
}

SolutionArrays solve_fetched(const py::array& copy, Sense sense, int threads, bool certificate,
                             const Prices& prices, bool transposed, double limit, bool most,
                             const Array<double>& best, const Array<double>& second,
                             const Array<Index>& col, const Array<bool>& valid,
                             const Array<double>& list_cost, const Array<Index>& list_col,
                             const Array<double>& bound, const py::function& fetch) {
  std::vector<RowMinima> minima(copy.shape(0));
  for (std::size_t i = 0; i < minima.size(); ++i) {
    minima[i] = {best.data()[i], second.data()[i], col.data()[i], valid.data()[i]};
  }
  const FirstPass first{minima.data(), list_cost.data(), list_col.data(), bound.data()};
  const auto start = copied(prices);
  const Options options = options_of(threads, certificate, start, transposed);
  return with_wide_type(
      copy.dtype(),
      [&](auto number) {
        return solve_fetched_of(view_of<decltype(number)>(copy, sense), first, fetch, {limit, most},
                                options);
      },
      []() -> SolutionArrays { throw py::type_error("rows are fetched as float32 or float64"); });
}

struct BatchArrays {
  Outcome outcome;       // of `problem`, or optimal
  std::int64_t problem;  // the first without an answer, or their number
  py::array_t<std::int64_t> col_of_row;
};

BatchArrays solve_batch_array(const py::array& costs, Sense sense, int threads,
                              const std::optional<Array<std::int64_t>>& sizes,
                              const std::optional<Array<double>>& limits, bool most) {
  return with_type_of(costs, [&](auto number) -> BatchArrays {
    using T = decltype(number);
    const auto item = static_cast<py::ssize_t>(sizeof(T));
    const BatchView<T> batch{static_cast<const T*>(costs.data()),
                             costs.shape(0),
                             costs.shape(1),
                             costs.shape(2),
                             costs.strides(0) / item,
                             costs.strides(1) / item,
                             costs.strides(2) / item,
                             sense,
                             sizes ? sizes->data() : nullptr,
                             limits ? limits->data() : nullptr,
                             most};
    py::array_t<std::int64_t> out({costs.shape(0), costs.shape(1)});
    std::int64_t* const data = out.mutable_data();
    const BatchResult result = [&] {
      const py::gil_scoped_release release;
      return solve_batch(batch, threads, data, SignalPoll());
    }();
    if (result.outcome == Outcome::interrupted) throw py::error_already_set();
    return {result.outcome, result.problem, std::move(out)};
  });
}

py::tuple margins_array(const py::array& cost, Sense sense, const Array<std::int64_t>& col_of_row,
                        const Array<double>& row_dual, const Array<double>& col_dual,
                        std::int64_t search_limit) {
  const std::vector<double> u = to_vector(row_dual);
  return to_arrays(with_scanner(cost, sense,
                                [&](const RowScanner& scanner) {
                                  return margins(scanner,
                                                 matching_of(scanner, col_of_row, col_dual), u,
                                                 search_limit, SignalPoll());
                                }),
                   cost.shape(0));
}

}  // namespace

void define_assignment(py::module_& m) {
  py::native_enum<Sense>(m, "Sense", "enum.Enum", "What the sum of the matched entries is to be.")
      .value("minimize", Sense::minimize)
      .value("maximize", Sense::maximize)
      .value("maximize_magnitude", Sense::maximize_magnitude)
      .finalize();
  py::native_enum<Outcome>(m, "Outcome", "enum.Enum", "How a solve ended.")
      .value("optimal", Outcome::optimal)
      .value("infeasible", Outcome::infeasible)
      .value("invalid", Outcome::invalid)
      .value("interrupted", Outcome::interrupted)
      .finalize();
  py::class_<SolutionArrays>(m, "Solution", "An answer, in terms of the minimised costs.")
      .def_readonly("outcome", &SolutionArrays::outcome)
      .def_readonly("col_of_row", &SolutionArrays::col_of_row)
      .def_readonly("row_dual", &SolutionArrays::row_dual)
      .def_readonly("col_dual", &SolutionArrays::col_dual)
      .def_readonly("objective", &SolutionArrays::objective)
      .def_readonly("gap", &SolutionArrays::gap)
      .def_readonly("trapped", &SolutionArrays::trapped,
                    "If infeasible: rows that compete for too few columns.")
      .def_readonly("stats", &SolutionArrays::stats);
  py::class_<BatchArrays>(m, "BatchSolution", "Answers for problems of one shape.")
      .def_readonly("outcome", &BatchArrays::outcome, "Of `problem`, or optimal.")
      .def_readonly("problem", &BatchArrays::problem,
                    "The first problem without an answer, or their number.")
      .def_readonly("col_of_row", &BatchArrays::col_of_row);
  m.def("solve", &solve_array, py::arg("cost"), py::arg("sense"), py::arg("threads"),
        py::arg("certificate"), py::arg("prices"), py::arg("transposed") = false,
        py::arg("limit") = kInfinity, py::arg("most") = false, py::arg("small") = kSmall,
        "Solves a matrix whose rows do not outnumber its columns. transposed: square, and the "
        "caller's rows are the columns. limit: no pair costs more, and rows may stay out at it. "
        "most: where there is no complete assignment, as many pairs as possible.");
  m.def(
      "solve_fetched", &solve_fetched, py::arg("copy"), py::arg("sense"), py::arg("threads"),
      py::arg("certificate"), py::arg("prices"), py::arg("transposed"), py::arg("limit"),
      py::arg("most"), py::arg("best"), py::arg("second"), py::arg("col"), py::arg("valid"),
      py::arg("list_cost"), py::arg("list_col"), py::arg("bound"), py::arg("fetch"),
      "As solve, from what a device found in its first pass: the two least costs of each row [n], "
      "candidate lists [n, list_capacity] with their bounds [n]. fetch(rows) puts rows of the "
      "matrix into copy [n, m].");
  m.attr("list_capacity") = kListCapacity;
  m.attr("most_lines") = kMostLines;
  m.def(
      "batch", &solve_batch_array, py::arg("costs"), py::arg("sense"), py::arg("threads"),
      py::arg("sizes") = py::none(), py::arg("limits") = py::none(), py::arg("most") = false,
      "Solves problems [B, n, m] of any shape; sizes: rows and columns of each, [B, 2]; limits [B] "
      "and most as for solve.");
  m.def("margins", &margins_array, py::arg("cost"), py::arg("sense"), py::arg("col_of_row"),
        py::arg("row_dual"), py::arg("col_dual"), py::arg("search_limit"),
        "(loss, exact) of every row; duals of the minimised costs.");
}

}  // namespace bmatch::python
