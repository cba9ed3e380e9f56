// NumPy's arrays as the solver reads them, and what it finds as arrays.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "assignment/matching.h"
#include "assignment/rows/cost_view.h"
#include "assignment/rows/stored_types.h"

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

// Calls f with a number of a type that is scanned as it is stored, or other().
template <typename F, typename Other>
auto with_wide_type(const py::dtype& dtype, F f, Other other) {
  if (dtype.kind() == 'f' && dtype.itemsize() == 4) return f(float{});
  if (dtype.kind() == 'f' && dtype.itemsize() == 8) return f(double{});
  return other();
}

// Calls f with a number of a type that is read as it is stored, or other().  NumPy has no bfloat16:
// two bytes of no kind stand for it.
template <typename F, typename Other>
auto with_stored_type(const py::dtype& dtype, F f, Other other) {
  const auto of_kind = [&](auto one, auto two, auto four) {
    switch (dtype.itemsize()) {
      case 1:
        return f(one);
      case 2:
        return f(two);
      case 4:
        return f(four);
      default:
        return other();
    }
  };
  switch (dtype.kind()) {
    case 'f':
      if (dtype.itemsize() == 2) return f(Half{});
      return with_wide_type(dtype, f, other);
    case 'i':
      return of_kind(std::int8_t{}, std::int16_t{}, std::int32_t{});
    case 'u':
      return of_kind(std::uint8_t{}, std::uint16_t{}, std::uint32_t{});
    case 'b':
      return f(Boolean{});
    case 'V':
      return dtype.itemsize() == 2 ? f(Bfloat16{}) : other();
    default:
      return other();
  }
}

// Calls f with a number of the array's own type.
template <typename F>
auto with_type_of(const py::array& array, F f) {
  return with_stored_type(array.dtype(), f, []() -> decltype(f(float{})) {
    throw py::type_error("bmatch._core takes matrices of floats, booleans and integers of 32 bits");
  });
}

}  // namespace bmatch::python
