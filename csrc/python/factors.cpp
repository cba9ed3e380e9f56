// Matrices that never exist: rows from factors, or from a Python function.
#include <pybind11/native_enum.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "arrays.h"
#include "assignment/partial.h"
#include "assignment/rows/block_scanner.h"
#include "assignment/rows/factor_scanner.h"
#include "module.h"
#include "signal_poll.h"
#include "solution.h"

namespace bmatch::python {
namespace {

// ---- Factors -------------------------------------------------------------------------------

// Calls f with both sides of C-contiguous factors of one type.
template <typename F>
auto with_factors(const py::array& x, const py::array& y, F f) {
  return with_wide_type(
      x.dtype(),
      [&](auto number) {
        using T = decltype(number);
        const auto side = [](const py::array& of) {
          return FactorView<T>{static_cast<const T*>(of.data()), static_cast<Index>(of.shape(0)),
                               static_cast<Index>(of.shape(1))};
        };
        return f(side(x), side(y));
      },
      []() -> decltype(f(FactorView<float>{}, FactorView<float>{})) {
        throw py::type_error("factors are float32 or float64");
      });
}

SolutionArrays solve_factors(const py::array& x, const py::array& y, FactorCost cost, Sense sense,
                             int threads, bool certificate, const Prices& prices, bool transposed,
                             double limit, bool most, std::int64_t bytes, std::int64_t small) {
  const auto start = copied(prices);
  Options options = options_of(threads, certificate, start, transposed);
  options.small = small;
  return with_factors(x, y, [&](auto rows, auto cols) {
    Solution s = [&] {
      const py::gil_scoped_release release;
      const FactorScanner scanner(rows, cols, cost, sense, bytes);
      return solve_partial(scanner, {limit, most}, options, SignalPoll());
    }();
    return to_arrays(std::move(s));
  });
}

// The entries of a matrix, as they are scanned.
class FactorRows {
 public:
  FactorRows(py::array x, py::array y, FactorCost cost) : x_(std::move(x)), y_(std::move(y)) {
    with_factors(x_, y_, [&](auto rows, auto cols) {
      using T = std::remove_cv_t<std::remove_pointer_t<decltype(rows.data)>>;
      scanner_ = std::make_unique<FactorScanner<T>>(rows, cols, cost, Sense::minimize, 0);
    });
  }

  // Rows first, first + 1, ...: [count, cols].
  py::array_t<double> rows(std::int64_t first, std::int64_t count) const {
    return std::visit(
        [&](const auto& scanner) {
          const std::int64_t wide = scanner->cols();
          py::array_t<double> out({count, wide});
          double* const data = out.mutable_data();
          const py::gil_scoped_release release;
          constexpr std::int64_t kAtOnce = 16;
          for (std::int64_t begin = 0; begin < count; begin += kAtOnce) {
            const auto some = static_cast<int>(std::min(kAtOnce, count - begin));
            Index number[kAtOnce];
            double* row[kAtOnce];
            for (int k = 0; k < some; ++k) {
              number[k] = static_cast<Index>(first + begin + k);
              row[k] = data + (begin + k) * wide;
            }
            scanner->entries(number, some, 0, scanner->cols(), row);
          }
          return out;
        },
        scanner_);
  }

  // An entry for each pair of a row and a column.
  py::array_t<double> entries(const Array<std::int64_t>& row,
                              const Array<std::int64_t>& col) const {
    py::array_t<double> out(row.size());
    std::visit(
        [&](const auto& scanner) {
          for (py::ssize_t k = 0; k < row.size(); ++k) {
            out.mutable_data()[k] = scanner->entry(static_cast<Index>(row.data()[k]),
                                                   static_cast<Index>(col.data()[k]));
          }
        },
        scanner_);
    return out;
  }

 private:
  const py::array x_, y_;  // which the scanner reads
  std::variant<std::unique_ptr<FactorScanner<float>>, std::unique_ptr<FactorScanner<double>>>
      scanner_;
};

py::tuple factor_margins(const py::array& x, const py::array& y, FactorCost cost, Sense sense,
                         const Array<std::int64_t>& col_of_row, const Array<double>& row_dual,
                         const Array<double>& col_dual, std::int64_t search_limit,
                         std::int64_t bytes) {
  const std::vector<double> u = to_vector(row_dual);
  return with_factors(x, y, [&](auto rows, auto cols) {
    const Margins found = [&] {
      const py::gil_scoped_release release;
      const FactorScanner scanner(rows, cols, cost, sense, bytes);
      return margins(scanner, matching_of(scanner, col_of_row, col_dual), u, search_limit,
                     SignalPoll());
    }();
    return to_arrays(found, x.shape(0));
  });
}

// ---- Blocks --------------------------------------------------------------------------------

// Calls a Python function for blocks in whichever thread of the solver wants one.  No exception
// may leave it there: a solve ends as if it were interrupted, and the exception is raised then.
class Caller {
 public:
  Caller(const py::function& make, Index cols) : make_(make), cols_(cols) {}

  void operator()(Index first, Index count, double* out) {
    const std::int64_t size = std::int64_t{count} * cols_;
    if (!failed_) {
      const py::gil_scoped_acquire gil;
      try {
        const auto made = py::cast<Array<double>>(make_(first, count));
        std::copy_n(made.data(), size, out);
        return;
      } catch (py::error_already_set& raised) {
        error_ = std::make_unique<py::error_already_set>(raised);
        failed_ = true;
      }
    }
    std::fill_n(out, size, 0.0);
  }
  bool failed() const { return failed_; }
  void raise() const {
    if (error_ != nullptr) throw py::error_already_set(*error_);
  }

 private:
  const py::function& make_;
  const Index cols_;
  std::atomic<bool> failed_{false};
  std::unique_ptr<py::error_already_set> error_;
};

SolutionArrays solve_blocks(const py::function& make, Index rows, Index cols, Index block,
                            Sense sense, int threads, bool certificate, const Prices& prices,
                            double limit, bool most, std::int64_t bytes, std::int64_t small) {
  const auto start = copied(prices);
  Options options = options_of(threads, certificate, start, false);
  options.small = small;
  Caller caller(make, cols);
  SignalPoll poll;
  Solution s = [&] {
    const py::gil_scoped_release release;
    const BlockScanner scanner(rows, cols, block, sense, bytes, std::ref(caller));
    return solve_partial(scanner, {limit, most}, options,
                         [&] { return caller.failed() || poll(); });
  }();
  caller.raise();
  return to_arrays(std::move(s));
}

py::tuple block_margins(const py::function& make, Index rows, Index cols, Index block, Sense sense,
                        const Array<std::int64_t>& col_of_row, const Array<double>& row_dual,
                        const Array<double>& col_dual, std::int64_t search_limit,
                        std::int64_t bytes) {
  const std::vector<double> u = to_vector(row_dual);
  Caller caller(make, cols);
  SignalPoll poll;
  const Margins found = [&] {
    const py::gil_scoped_release release;
    const BlockScanner scanner(rows, cols, block, sense, bytes, std::ref(caller));
    return margins(scanner, matching_of(scanner, col_of_row, col_dual), u, search_limit,
                   [&] { return caller.failed() || poll(); });
  }();
  caller.raise();
  return to_arrays(found, rows);
}

}  // namespace

void define_factors(py::module_& m) {
  py::native_enum<FactorCost>(m, "FactorCost", "enum.Enum", "What two rows of factors cost.")
      .value("dot", FactorCost::dot)
      .value("abs_dot", FactorCost::abs_dot)
      .value("cosine", FactorCost::cosine)
      .value("abs_cosine", FactorCost::abs_cosine)
      .value("sqeuclidean", FactorCost::sqeuclidean)
      .value("euclidean", FactorCost::euclidean)
      .finalize();
  m.def("solve_factors", &solve_factors, py::arg("x"), py::arg("y"), py::arg("cost"),
        py::arg("sense"), py::arg("threads"), py::arg("certificate"), py::arg("prices"),
        py::arg("transposed"), py::arg("limit"), py::arg("most"), py::arg("bytes"),
        py::arg("small") = kSmall,
        "As solve, of the matrix of factors x [n, k] and y [m, k], C-contiguous, n <= m. bytes: "
        "of rows that are kept.");
  py::class_<FactorRows>(m, "FactorRows", "The entries of that matrix, as they are scanned.")
      .def(py::init<py::array, py::array, FactorCost>(), py::arg("x"), py::arg("y"),
           py::arg("cost"))
      .def("rows", &FactorRows::rows, py::arg("first"), py::arg("count"),
           "Rows first, first + 1, ..., float64 [count, m].")
      .def("entries", &FactorRows::entries, py::arg("row"), py::arg("col"),
           "An entry for each pair of a row and a column, float64.");
  m.def("factor_margins", &factor_margins, py::arg("x"), py::arg("y"), py::arg("cost"),
        py::arg("sense"), py::arg("col_of_row"), py::arg("row_dual"), py::arg("col_dual"),
        py::arg("search_limit"), py::arg("bytes"), "As margins, of that matrix.");
  m.def("solve_blocks", &solve_blocks, py::arg("make"), py::arg("rows"), py::arg("cols"),
        py::arg("block"), py::arg("sense"), py::arg("threads"), py::arg("certificate"),
        py::arg("prices"), py::arg("limit"), py::arg("most"), py::arg("bytes"),
        py::arg("small") = kSmall,
        "As solve, of the matrix [rows, cols] of which make(first, count) gives rows in float64, "
        "[count, cols]; always `block` of them, from a multiple of that on, or what is left.");
  m.def("block_margins", &block_margins, py::arg("make"), py::arg("rows"), py::arg("cols"),
        py::arg("block"), py::arg("sense"), py::arg("col_of_row"), py::arg("row_dual"),
        py::arg("col_dual"), py::arg("search_limit"), py::arg("bytes"),
        "As margins, of that matrix.");
}

}  // namespace bmatch::python
