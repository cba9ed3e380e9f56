// The drop-in's own way to the solver.
//
// Libraries solve matrices of a few rows by the thousand, as they have them: columns taken by
// index, counts, lists.  SciPy takes a microsecond for each, so nothing is asked here that can be
// left to the general way, which takes all that is not simple, and every error.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "arrays.h"
#include "assignment/partial.h"
#include "assignment/policy.h"
#include "assignment/reused.h"
#include "assignment/rows/packed.h"
#include "assignment/solver.h"
#include "module.h"
#include "signal_poll.h"

namespace bmatch::python {
namespace {

using Api = py::detail::npy_api;

constexpr std::int64_t kSolvedAtOnce = 1024;  // entries, that take some microseconds

struct Indexes {
  py::object array;
  std::int64_t* data;
};

// An array of int64, [count]; pybind11's own would take as long as a solve of two rows.
Indexes indexes(py::ssize_t count) {
  const Api& api = Api::get();
  Py_intptr_t length = count;
  PyObject* const made =
      api.PyArray_NewFromDescr_(api.PyArray_Type_, api.PyArray_DescrFromType_(Api::NPY_INT64_), 1,
                                &length, nullptr, nullptr, 0, nullptr);
  if (made == nullptr) throw py::error_already_set();
  return {py::reinterpret_steal<py::object>(made),
          reinterpret_cast<std::int64_t*>(py::detail::array_proxy(made)->data)};
}

py::object pairs_of(const std::vector<Index>& found) {
  const auto none = std::count(found.begin(), found.end(), kNone);
  const auto count = static_cast<py::ssize_t>(found.size()) - none;
  const Indexes rows = indexes(count), cols = indexes(count);
  std::int64_t *row = rows.data, *col = cols.data;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i] == kNone) continue;
    *row++ = static_cast<std::int64_t>(i);
    *col++ = found[i];
  }
  return py::make_tuple(rows.array, cols.array);
}

struct Request {
  bool maximize;
  int threads;
  double limit;
  bool turned = false;  // columns are the solver's rows
};

// None where the solver finds no answer.
template <typename T>
py::object solved(const CostView<T>& view, const Request& request) {
  Options options;
  options.threads = request.threads;
  options.certificate = false;
  options.transposed = request.turned && view.rows == view.cols;
  const Solution s = [&] {
    std::optional<py::gil_scoped_release> release;  // which takes as long as a solve of two rows
    if (view.rows * view.cols > kSolvedAtOnce) release.emplace();
    return with_scanner_of(view, [&](const RowScanner& scanner) {
      return solve_partial(scanner, {request.limit, false}, options, SignalPoll());
    });
  }();
  if (s.outcome == Outcome::interrupted) throw py::error_already_set();
  if (s.outcome != Outcome::optimal) return py::none();
  return pairs_of(request.turned ? s.matching.row_of_col : s.matching.col_of_row);
}

// In float64; None where that does not hold all of them.
template <typename T>
py::object solved_as_doubles(const CostView<T>& view, const Request& request) {
  constexpr T most = T{1} << 53;
  ReusedVector<double> doubles(static_cast<std::size_t>(view.rows * view.cols));
  double* out = doubles.data();
  bool exact = true;
  for (std::int64_t i = 0; i < view.rows; ++i) {
    for (std::int64_t j = 0; j < view.cols; ++j) {
      const T x = view.data[i * view.row_stride + j * view.col_stride];
      exact &= x <= most;
      if constexpr (std::is_signed_v<T>) exact &= x >= -most;
      *out++ = static_cast<double>(x);
    }
  }
  if (!exact) return py::none();
  const CostView<double> copy{doubles.data(), view.rows, view.cols, view.cols, 1, view.sense};
  return solved(copy, request);
}

// An array, or lists or tuples of numbers as one; or null.
py::array array_of(py::handle cost) {
  PyObject* const given = cost.ptr();
  if (Api::get().PyArray_Check_(given)) return py::reinterpret_borrow<py::array>(cost);
  if (!PyList_CheckExact(given) && !PyTuple_CheckExact(given))
    return py::reinterpret_steal<py::array>(py::handle());
  return py::array::ensure(cost);
}

// (row_ind, col_ind), or None where the general way has to be gone.  No pair costs more than the
// limit, of minimised costs.
py::object pairs_of(py::handle cost, Request request) {
  const py::array array = array_of(cost);
  if (!array || array.ndim() != 2) return py::none();
  const py::dtype dtype = array.dtype();
  if (std::strchr("fiub", dtype.kind()) == nullptr) return py::none();
  const py::ssize_t item = dtype.itemsize(), rows = array.shape(0), cols = array.shape(1);
  if (rows > kMostLines || cols > kMostLines) return py::none();
  if ((array.flags() & Api::NPY_ARRAY_ALIGNED_) == 0) return py::none();
  if (dtype.byteorder() != '=' && item != 1) return py::none();
  if (rows == 0 || cols == 0) return pairs_of(std::vector<Index>());
  if (array.strides(0) % item != 0 || array.strides(1) % item != 0) return py::none();
  const bool small = rows * cols <= kSmall;  // else a copy may be better
  if (array.strides(1) != item && !small) return py::none();
  const bool by_columns = std::abs(array.strides(0)) < std::abs(array.strides(1));
  request.turned = rows > cols || (rows == cols && by_columns);
  const auto oriented = [&](auto number) {
    const Sense sense = request.maximize ? Sense::maximize : Sense::minimize;
    const auto view = view_of<decltype(number)>(array, sense);
    return request.turned ? view.transposed() : view;
  };
  if (item == 8 && dtype.kind() != 'f') {
    if (!small) return py::none();
    return dtype.kind() == 'i' ? solved_as_doubles(oriented(std::int64_t{}), request)
                               : solved_as_doubles(oriented(std::uint64_t{}), request);
  }
  return with_stored_type(
      dtype, [&](auto number) { return solved(oriented(number), request); },
      []() -> py::object { return py::none(); });
}

// As a bare C function: the call itself is a good part of a solve of two rows.
PyObject* pairs_entry(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  if (count != 4) {
    PyErr_SetString(PyExc_TypeError, "pairs takes cost, maximize, threads and limit");
    return nullptr;
  }
  const int maximize = PyObject_IsTrue(arguments[1]);
  const long threads = PyLong_AsLong(arguments[2]);
  const double limit = PyFloat_AsDouble(arguments[3]);
  if (maximize < 0 || ((threads == -1 || limit == -1.0) && PyErr_Occurred() != nullptr)) {
    return nullptr;
  }
  try {
    const Request request{maximize != 0, static_cast<int>(threads), limit};
    return pairs_of(arguments[0], request).release().ptr();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

PyMethodDef pairs_method = {
    "pairs", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(pairs_entry)),
    METH_FASTCALL,
    "pairs(cost, maximize, threads, limit): (row_ind, col_ind) of plain numbers in arrays or "
    "lists, or None for anything else and for every error."};

}  // namespace

void define_pairs(py::module_& m) {
  m.attr("pairs") = py::reinterpret_steal<py::object>(PyCFunction_New(&pairs_method, nullptr));
}

}  // namespace bmatch::python
