// NumPy's arrays as the solver reads them, and what it finds as arrays.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "assignment/matching.h"
#include "assignment/rows/cost_view.h"

namespace bmatch::python {

namespace py = pybind11;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

// -1 for none, int64 as NumPy indexes.
inline py::array_t<std::int64_t> to_indexes(const std::vector<Index>& values) {
  py::array_t<std::int64_t> out(static_cast<py::ssize_t>(values.size()));
  std::copy(values.begin(), values.end(), out.mutable_data());
  return out;
}

template <typename T>
py::array_t<T> to_array(const std::vector<T>& values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

template <typename T>
std::vector<T> to_vector(const Array<T>& values) {
  return {values.data(), values.data() + values.size()};
}

template <typename T>
CostView<T> view_of(const py::array& cost, Sense sense) {
  const auto item = static_cast<py::ssize_t>(sizeof(T));
  return {static_cast<const T*>(cost.data()),
          cost.shape(0),
          cost.shape(1),
          cost.strides(0) / item,
          cost.strides(1) / item,
          sense};
}

// Calls f with a number of the array's own type.
template <typename F>
auto with_type_of(const py::array& array, F f) {
  if (py::isinstance<py::array_t<float>>(array)) return f(float{});
  if (py::isinstance<py::array_t<double>>(array)) return f(double{});
  throw py::type_error("bmatch._core takes float32 and float64 matrices");
}

}  // namespace bmatch::python
