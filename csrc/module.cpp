// bmatch._core: the only file that knows Python.
//
// Arrays are checked and oriented in bmatch/assignment.py; here they become views, the GIL
// is released, and results become arrays.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <chrono>
#include <vector>

#include "assignment/dense_scanner.h"
#include "assignment/margin.h"
#include "assignment/solver.h"

namespace py = pybind11;
using namespace bmatch;

namespace {

// Lets Python handle signals (Ctrl-C) while the GIL is released, about 20 times a second.
class SignalPoll {
 public:
  bool operator()() {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return false;
    next_ = now + std::chrono::milliseconds(50);
    py::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
  }

 private:
  std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now();
};

template <typename T>
py::array_t<T> to_array(const std::vector<T>& values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

template <typename T>
std::vector<T> to_vector(const py::array_t<T, py::array::c_style>& values) {
  return {values.data(), values.data() + values.size()};
}

template <typename T>
DenseScanner<T> scanner_of(const py::array& cost, Sense sense) {
  const auto item = static_cast<py::ssize_t>(sizeof(T));
  return DenseScanner<T>({static_cast<const T*>(cost.data()), cost.shape(0), cost.shape(1),
                          cost.strides(0) / item, cost.strides(1) / item, sense});
}

// Calls f with a scanner of the array's own type.
template <typename F>
auto with_scanner(const py::array& cost, Sense sense, F f) {
  if (py::isinstance<py::array_t<float>>(cost)) return f(scanner_of<float>(cost, sense));
  if (py::isinstance<py::array_t<double>>(cost)) return f(scanner_of<double>(cost, sense));
  throw py::type_error("bmatch._core takes float32 and float64 matrices");
}

py::tuple solve_array(const py::array& cost, Sense sense) {
  return with_scanner(cost, sense, [](const RowScanner& scanner) {
    Solution s = [&] {
      py::gil_scoped_release release;
      return solve(scanner, SignalPoll());
    }();
    if (s.status == Status::interrupted) throw py::error_already_set();
    return py::make_tuple(s.status, to_array(s.matching.col_of_row), to_array(s.u),
                          to_array(s.matching.v), s.objective, s.gap, to_array(s.trapped));
  });
}

py::tuple margins_array(const py::array& cost, Sense sense,
                        const py::array_t<std::int64_t, py::array::c_style>& col_of_row,
                        const py::array_t<double, py::array::c_style>& u,
                        const py::array_t<double, py::array::c_style>& v,
                        std::int64_t search_limit) {
  return with_scanner(cost, sense, [&](const RowScanner& scanner) {
    Matching matching(scanner.rows(), scanner.cols());
    matching.v = to_vector(v);
    for (std::int64_t i = 0; i < scanner.rows(); ++i) matching.match(i, col_of_row.at(i));
    const std::vector<double> row_dual = to_vector(u);
    Margins result = [&] {
      py::gil_scoped_release release;
      return margins(scanner, matching, row_dual, search_limit, SignalPoll());
    }();
    if (result.loss.empty() && scanner.rows() > 0) throw py::error_already_set();
    return py::make_tuple(to_array(result.loss), to_array(result.exact));
  });
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The assignment solver of bmatch, in C++.";
  py::enum_<Sense>(m, "Sense")
      .value("minimize", Sense::minimize)
      .value("maximize", Sense::maximize)
      .value("maximize_magnitude", Sense::maximize_magnitude);
  py::enum_<Status>(m, "Status")
      .value("optimal", Status::optimal)
      .value("infeasible", Status::infeasible)
      .value("invalid", Status::invalid)
      .value("interrupted", Status::interrupted);
  m.def("solve", &solve_array, py::arg("cost"), py::arg("sense"),
        "(status, col_of_row, row_dual, col_dual, objective, gap, trapped) of the minimised "
        "costs; rows must not outnumber columns.");
  m.def("margins", &margins_array, py::arg("cost"), py::arg("sense"), py::arg("col_of_row"),
        py::arg("row_dual"), py::arg("col_dual"), py::arg("search_limit"),
        "(loss, exact) of every row; duals of the minimised costs.");
}
