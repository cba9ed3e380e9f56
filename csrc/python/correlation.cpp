// The passes over tokens: addresses of tensors on the host, which Python has checked.
#include <pybind11/pybind11.h>

#include <cstdint>

#include "correlation/column_sums.h"
#include "correlation/fold.h"
#include "correlation/openmp.h"
#include "correlation/products.h"
#include "module.h"
#include "threads.h"

namespace py = pybind11;

namespace bmatch::python {
namespace {

template <typename T>
void column_sums_at(std::uintptr_t values, std::int64_t rows, std::int64_t cols,
                    std::int64_t row_stride, std::uintptr_t shift, std::uintptr_t sum,
                    std::uintptr_t square, Threads& threads) {
  const py::gil_scoped_release release;
  using Sum = typename ColumnSums<T>::Sum;
  column_sums(ColumnSums<T>{reinterpret_cast<const T*>(values), rows, cols, row_stride,
                            reinterpret_cast<const Sum*>(shift), reinterpret_cast<double*>(sum),
                            reinterpret_cast<double*>(square)},
              threads);
}

template <typename T>
void multiply_at(std::uintptr_t left, std::uintptr_t right, std::int64_t tokens, std::int64_t d1,
                 std::int64_t d2, std::int64_t left_stride, std::int64_t right_stride,
                 std::uintptr_t products, Threads& threads) {
  const py::gil_scoped_release release;
  multiply(Products<T>{reinterpret_cast<const T*>(left), reinterpret_cast<const T*>(right), tokens,
                       d1, d2, left_stride, right_stride, reinterpret_cast<float*>(products)},
           threads);
}

template <typename T>
void fold_at(std::uintptr_t comoment, std::uintptr_t products, std::int64_t d1, std::int64_t d2,
             std::uintptr_t left, std::uintptr_t right, Threads& threads) {
  const py::gil_scoped_release release;
  fold(Fold<T>{reinterpret_cast<double*>(comoment), reinterpret_cast<const T*>(products), d1, d2,
               reinterpret_cast<const double*>(left), reinterpret_cast<const double*>(right)},
       threads);
}

template <typename T>
void def_column_sums(py::module_& m, const char* name) {
  m.def(name, &column_sums_at<T>, py::arg("values"), py::arg("rows"), py::arg("cols"),
        py::arg("row_stride"), py::arg("shift"), py::arg("sum"), py::arg("square"),
        py::arg("threads"),
        "Sums of the columns of values - shift and of their squares, as float64 [cols] at the "
        "addresses sum and square; rows start row_stride numbers apart, and shift 0 is none. The "
        "shift is float32, of float64 values float64.");
}

template <typename T>
void def_multiply(py::module_& m, const char* asked, const char* name) {
  m.def(asked, &multiplies<T>, "Whether the instruction set in use has the product.");
  m.def(name, &multiply_at<T>, py::arg("left"), py::arg("right"), py::arg("tokens"), py::arg("d1"),
        py::arg("d2"), py::arg("left_stride"), py::arg("right_stride"), py::arg("products"),
        py::arg("threads"),
        "products = left^T right: addresses of float32 [d1, d2], and of [tokens, d1] and "
        "[tokens, d2], whose rows start left_stride and right_stride numbers apart.");
}

template <typename T>
void def_fold(py::module_& m, const char* name) {
  m.def(name, &fold_at<T>, py::arg("comoment"), py::arg("products"), py::arg("d1"), py::arg("d2"),
        py::arg("left"), py::arg("right"), py::arg("threads"),
        "comoment += products + left^T right; addresses of float64 [d1, d2], of products [d1, d2] "
        "in the type named, and of float64 [2, d1] and [2, d2].");
}

}  // namespace

void define_correlation(py::module_& m) {
  py::class_<Threads>(m, "Threads", "Torch's threads, for the passes over its tensors.")
      .def(py::init(&threads_beside_torch), py::arg("threads"));
  py::class_<IdleTeam>(m, "IdleTeam",
                       "OpenMP threads that stand idle while it lives: with more threads than "
                       "cores, libgomp's wait asleep.")
      .def(py::init<int>(), py::arg("threads"), py::call_guard<py::gil_scoped_release>());
  def_column_sums<float>(m, "column_sums_float32");
  def_column_sums<double>(m, "column_sums_float64");
  def_column_sums<Bfloat16>(m, "column_sums_bfloat16");
  m.def("packed_bytes", &packed_bytes, py::arg("tokens"), py::arg("d1"), py::arg("d2"),
        "Memory in which multiply_float32 packs.");
  def_multiply<float>(m, "multiplies_float32", "multiply_float32");
  def_multiply<Bfloat16>(m, "multiplies_bfloat16", "multiply_bfloat16");
  def_fold<float>(m, "fold_float32");
  def_fold<double>(m, "fold_float64");
}

}  // namespace bmatch::python
