// bmatch._core: the only file that knows Python.
//
// Arrays are checked and oriented in bmatch/assignment.py; here they become views, the GIL
// is released, and results become arrays. Tensors come from bmatch/moments.py as addresses, so
// that one build serves every torch.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <vector>

#include "assignment/batch.h"
#include "assignment/rows/dense_scanner.h"
#include "assignment/rows/fetched_scanner.h"
#include "assignment/margin.h"
#include "assignment/solver.h"
#include "correlation/column_sums.h"
#include "correlation/fold.h"
#include "correlation/openmp.h"
#include "correlation/products.h"
#include "cuda/solver.h"
#include "threads.h"

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
  std::chrono::steady_clock::time_point next_{};  // the first question is answered at once
};

// -1 for none, int64 as NumPy indexes.
py::array_t<std::int64_t> to_indexes(const std::vector<Index>& values) {
  py::array_t<std::int64_t> out(static_cast<py::ssize_t>(values.size()));
  std::copy(values.begin(), values.end(), out.mutable_data());
  return out;
}

template <typename T>
py::array_t<T> to_array(const std::vector<T>& values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

template <typename T>
std::vector<T> to_vector(const py::array_t<T, py::array::c_style>& values) {
  return {values.data(), values.data() + values.size()};
}

// A row-major copy of a matrix whose rows lie far apart in memory, made in square blocks.
template <typename T>
std::unique_ptr<T[]> packed(const CostView<T>& view) {
  constexpr std::int64_t kBlock = 32;
  std::unique_ptr<T[]> copy(new T[static_cast<std::size_t>(view.rows * view.cols)]);
  for (std::int64_t i0 = 0; i0 < view.rows; i0 += kBlock) {
    const std::int64_t i1 = std::min(i0 + kBlock, view.rows);
    for (std::int64_t j0 = 0; j0 < view.cols; j0 += kBlock) {
      const std::int64_t j1 = std::min(j0 + kBlock, view.cols);
      for (std::int64_t i = i0; i < i1; ++i) {
        const T* row = view.data + i * view.row_stride;
        for (std::int64_t j = j0; j < j1; ++j) copy[i * view.cols + j] = row[j * view.col_stride];
      }
    }
  }
  return copy;
}

template <typename T, typename F>
auto with_scanner_of(CostView<T> view, F f) {
  constexpr std::int64_t kLine = 64 / sizeof(T);
  if (view.rows > std::numeric_limits<Index>::max() - kPad ||
      view.cols > std::numeric_limits<Index>::max() - kPad) {
    throw py::value_error("the cost matrix has more than 2**31 rows or columns");
  }
  // Up to this size a gather is as quick as a copy.
  constexpr std::int64_t kGathered = 64 * 128;
  // Rows that use a part of each cache line only are cheaper to copy once than to gather often.
  std::unique_ptr<T[]> copy;
  if (std::abs(view.col_stride) >= kLine && view.rows * view.cols > kGathered) {
    {
      py::gil_scoped_release release;
      copy = packed(view);
    }
    view.data = copy.get();
    view.row_stride = view.cols;
    view.col_stride = 1;
  }
  return f(DenseScanner<T>(view));
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

// Calls f with a scanner of the array's own type.
template <typename F>
auto with_scanner(const py::array& cost, Sense sense, F f) {
  if (py::isinstance<py::array_t<float>>(cost)) {
    return with_scanner_of(view_of<float>(cost, sense), f);
  }
  if (py::isinstance<py::array_t<double>>(cost)) {
    return with_scanner_of(view_of<double>(cost, sense), f);
  }
  throw py::type_error("bmatch._core takes float32 and float64 matrices");
}

py::dict to_dict(const Stats& stats, Index rows) {
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

py::tuple to_tuple(Solution& s, const RowScanner& scanner) {
  s.matching.v.resize(scanner.cols());
  return py::make_tuple(s.outcome, to_indexes(s.matching.col_of_row), to_array(s.u),
                        to_array(s.matching.v), s.objective, s.gap, to_indexes(s.trapped),
                        to_dict(s.stats, scanner.rows()));
}

// `start` is where prices lie, if there are any.
using Start = std::vector<double>;
Options options_of(int threads, bool certificate, const py::object& prices, bool transposed,
                   Start& start) {
  Options options;
  options.threads = threads;
  options.certificate = certificate;
  options.transposed = transposed;
  if (!prices.is_none()) {
    start = to_vector(prices.cast<py::array_t<double, py::array::c_style>>());
    options.prices = &start;
  }
  return options;
}

py::tuple solve_array(const py::array& cost, Sense sense, int threads, bool certificate,
                      const py::object& prices, bool transposed, std::int64_t small) {
  Start start;
  Options options = options_of(threads, certificate, prices, transposed, start);
  options.small = small;
  return with_scanner(cost, sense, [&](const RowScanner& scanner) {
    Solution s = [&] {
      py::gil_scoped_release release;
      return solve(scanner, options, SignalPoll());
    }();
    if (s.outcome == Outcome::interrupted) throw py::error_already_set();
    return to_tuple(s, scanner);
  });
}

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

// Rows that `fetch(rows)` puts into `copy` when they are wanted.
template <typename T>
py::tuple solve_fetched_of(const CostView<T>& copy, const FirstPass& first,
                           const py::function& fetch, const Options& options) {
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
    py::gil_scoped_release release;
    return solve(scanner, options, [&] { return failed || poll(); });
  }();
  if (error != nullptr) throw py::error_already_set(*error);
  if (s.outcome == Outcome::interrupted) throw py::error_already_set();
  return to_tuple(s, scanner);
}

py::tuple solve_fetched(const py::array& copy, Sense sense, int threads, bool certificate,
                        const py::object& prices, bool transposed, const Array<double>& best,
                        const Array<double>& second, const Array<Index>& col,
                        const Array<bool>& valid, const Array<double>& list_cost,
                        const Array<Index>& list_col, const Array<double>& bound,
                        const py::function& fetch) {
  std::vector<RowMinima> minima(copy.shape(0));
  for (std::size_t i = 0; i < minima.size(); ++i) {
    minima[i] = {best.data()[i], second.data()[i], col.data()[i], valid.data()[i]};
  }
  const FirstPass first{minima.data(), list_cost.data(), list_col.data(), bound.data()};
  Start start;
  const Options options = options_of(threads, certificate, prices, transposed, start);
  if (py::isinstance<py::array_t<float>>(copy)) {
    return solve_fetched_of(view_of<float>(copy, sense), first, fetch, options);
  }
  return solve_fetched_of(view_of<double>(copy, sense), first, fetch, options);
}

constexpr std::int64_t kSolvedAtOnce = 1024;  // entries, that take some microseconds

// (row_ind, col_ind) of a matrix that can be scanned where it lies; None where the general way has
// to be gone: any other kind of input, and every error.
py::object pairs_of(py::handle cost, bool maximize, int threads) {
  using Api = py::detail::npy_api;
  if (!Api::get().PyArray_Check_(cost.ptr())) return py::none();
  const auto array = py::reinterpret_borrow<py::array>(cost);
  if (array.ndim() != 2) return py::none();
  const py::dtype dtype = array.dtype();
  const bool single = dtype.num() == Api::NPY_FLOAT_;
  if (!single && dtype.num() != Api::NPY_DOUBLE_) return py::none();
  const py::ssize_t item = single ? 4 : 8;
  const bool plain = (array.flags() & Api::NPY_ARRAY_ALIGNED_) != 0 && dtype.byteorder() == '=' &&
                     array.strides(0) % item == 0 && array.strides(1) == item;
  if (!plain) return py::none();
  const Sense sense = maximize ? Sense::maximize : Sense::minimize;
  const bool tall = array.shape(0) > array.shape(1);
  Options options;
  options.threads = threads;
  options.certificate = false;
  auto answer = [&](const RowScanner& scanner) -> py::object {
    Solution s = [&] {
      std::optional<py::gil_scoped_release> release;  // which takes as long as a solve of two rows
      if (std::int64_t{scanner.rows()} * scanner.cols() > kSolvedAtOnce) release.emplace();
      return solve(scanner, options, SignalPoll());
    }();
    if (s.outcome == Outcome::interrupted) throw py::error_already_set();
    if (s.outcome != Outcome::optimal) return py::none();
    py::array_t<std::int64_t> rows(scanner.rows());
    if (!tall) {
      std::iota(rows.mutable_data(), rows.mutable_data() + scanner.rows(), std::int64_t{0});
      return py::make_tuple(std::move(rows), to_indexes(s.matching.col_of_row));
    }
    py::array_t<std::int64_t> cols(scanner.rows());
    std::int64_t *row = rows.mutable_data(), *col = cols.mutable_data();
    for (Index i = 0; i < scanner.cols(); ++i) {
      if (s.matching.row_of_col[i] == kNone) continue;
      *row++ = i;
      *col++ = s.matching.row_of_col[i];
    }
    return py::make_tuple(std::move(rows), std::move(cols));
  };
  auto oriented = [&](auto view) {
    return with_scanner_of(tall ? view.transposed() : view, answer);
  };
  return single ? oriented(view_of<float>(array, sense)) : oriented(view_of<double>(array, sense));
}

// As a bare C function: the call itself is a good part of a solve of two rows.
PyObject* pairs_entry(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  if (count != 3) {
    PyErr_SetString(PyExc_TypeError, "pairs takes cost, maximize and threads");
    return nullptr;
  }
  const int maximize = PyObject_IsTrue(arguments[1]);
  const long threads = PyLong_AsLong(arguments[2]);
  if (maximize < 0 || (threads == -1 && PyErr_Occurred() != nullptr)) return nullptr;
  try {
    return pairs_of(arguments[0], maximize != 0, static_cast<int>(threads)).release().ptr();
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
    "pairs(cost, maximize, threads): (row_ind, col_ind) of a plain float matrix, or None for "
    "anything else and for every error."};

// Column of each row for every problem of [B, n, m], and the first that has no answer, or B.
template <typename T>
py::tuple batch_of(const py::array& costs, Sense sense, int threads) {
  const auto item = static_cast<py::ssize_t>(sizeof(T));
  const BatchView<T> batch{static_cast<const T*>(costs.data()),
                           costs.shape(0),
                           costs.shape(1),
                           costs.shape(2),
                           costs.strides(0) / item,
                           costs.strides(1) / item,
                           costs.strides(2) / item,
                           sense};
  py::array_t<std::int64_t> out({costs.shape(0), costs.shape(1)});
  std::int64_t* const data = out.mutable_data();
  const BatchResult result = [&] {
    py::gil_scoped_release release;
    return solve_batch(batch, threads, data, SignalPoll());
  }();
  if (result.outcome == Outcome::interrupted) throw py::error_already_set();
  return py::make_tuple(result.outcome, result.problem, std::move(out));
}

py::tuple batch_array(const py::array& costs, Sense sense, int threads) {
  if (py::isinstance<py::array_t<float>>(costs)) return batch_of<float>(costs, sense, threads);
  if (py::isinstance<py::array_t<double>>(costs)) return batch_of<double>(costs, sense, threads);
  throw py::type_error("bmatch._core takes float32 and float64 matrices");
}

py::tuple margins_array(const py::array& cost, Sense sense,
                        const py::array_t<std::int64_t, py::array::c_style>& col_of_row,
                        const py::array_t<double, py::array::c_style>& u,
                        const py::array_t<double, py::array::c_style>& v,
                        std::int64_t search_limit) {
  return with_scanner(cost, sense, [&](const RowScanner& scanner) {
    Matching matching(scanner.rows(), scanner.cols());
    std::copy_n(v.data(), scanner.cols(), matching.v.begin());
    for (Index i = 0; i < scanner.rows(); ++i) {
      matching.match(i, static_cast<Index>(col_of_row.at(i)));
    }
    const std::vector<double> row_dual = to_vector(u);
    Margins result = [&] {
      py::gil_scoped_release release;
      return margins(scanner, matching, row_dual, search_limit, SignalPoll());
    }();
    if (result.loss.empty() && scanner.rows() > 0) throw py::error_already_set();
    return py::make_tuple(to_array(result.loss), to_array(result.exact));
  });
}

// Addresses of memory on a device, which Python has checked.
cuda::Task cuda_task(std::uintptr_t cost, cuda::Type type, std::int64_t problems, std::int64_t rows,
                     std::int64_t cols, std::int64_t problem_stride, std::int64_t row_stride,
                     Sense sense, std::uintptr_t prices) {
  return {reinterpret_cast<const void*>(cost),
          type,
          problems,
          rows,
          cols,
          problem_stride,
          row_stride,
          sense,
          reinterpret_cast<const double*>(prices)};
}

void cuda_solve(const cuda::Task& task, cuda::TeamKind team, std::uintptr_t col_of_row,
                std::uintptr_t u, std::uintptr_t v, std::uintptr_t reports,
                std::uintptr_t workspace, int device, std::uintptr_t stream) {
  const cuda::Answer answer{reinterpret_cast<std::int64_t*>(col_of_row),
                            reinterpret_cast<double*>(u), reinterpret_cast<double*>(v),
                            reinterpret_cast<cuda::Report*>(reports)};
  py::gil_scoped_release release;
  cuda::solve(task, team, answer, reinterpret_cast<void*>(workspace), device,
              reinterpret_cast<void*>(stream));
}

template <typename T>
void column_sums_at(std::uintptr_t values, std::int64_t rows, std::int64_t cols,
                    std::int64_t row_stride, std::uintptr_t shift, std::uintptr_t sum,
                    std::uintptr_t square, Threads& threads) {
  py::gil_scoped_release release;
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
  py::gil_scoped_release release;
  multiply(Products<T>{reinterpret_cast<const T*>(left), reinterpret_cast<const T*>(right), tokens,
                       d1, d2, left_stride, right_stride, reinterpret_cast<float*>(products)},
           threads);
}

template <typename T>
void fold_at(std::uintptr_t comoment, std::uintptr_t products, std::int64_t d1, std::int64_t d2,
             std::uintptr_t left, std::uintptr_t right, Threads& threads) {
  py::gil_scoped_release release;
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
  m.def(asked, &multiplies<T>, "Whether this processor has the instructions.");
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

PYBIND11_MODULE(_core, m) {
  m.doc() = "The assignment solver of bmatch, and the passes of its moments, in C++.";
  py::enum_<Sense>(m, "Sense")
      .value("minimize", Sense::minimize)
      .value("maximize", Sense::maximize)
      .value("maximize_magnitude", Sense::maximize_magnitude);
  py::enum_<Outcome>(m, "Outcome")
      .value("optimal", Outcome::optimal)
      .value("infeasible", Outcome::infeasible)
      .value("invalid", Outcome::invalid)
      .value("interrupted", Outcome::interrupted);
  m.def("solve", &solve_array, py::arg("cost"), py::arg("sense"), py::arg("threads"),
        py::arg("certificate"), py::arg("prices"), py::arg("transposed") = false,
        py::arg("small") = kSmall,
        "(outcome, col_of_row, row_dual, col_dual, objective, gap, trapped, stats) of the "
        "minimised costs; rows must not outnumber columns. transposed: square, and the caller's "
        "rows are the columns.");
  m.def(
      "solve_fetched", &solve_fetched, py::arg("copy"), py::arg("sense"), py::arg("threads"),
      py::arg("certificate"), py::arg("prices"), py::arg("transposed"), py::arg("best"),
      py::arg("second"), py::arg("col"), py::arg("valid"), py::arg("list_cost"),
      py::arg("list_col"), py::arg("bound"), py::arg("fetch"),
      "As solve, from what a device found in its first pass: the two least costs of each row [n], "
      "candidate lists [n, list_capacity] with their bounds [n]. fetch(rows) puts rows of the "
      "matrix into copy [n, m].");
  m.attr("list_capacity") = kListCapacity;
  m.attr("pairs") = py::reinterpret_steal<py::object>(PyCFunction_New(&pairs_method, nullptr));
  m.def("batch", &batch_array, py::arg("costs"), py::arg("sense"), py::arg("threads"),
        "(outcome, problem, col_of_row [B, n]); problem is the first without an answer.");
  py::enum_<cuda::Type>(m, "CudaType")
      .value("float32", cuda::Type::float32)
      .value("float64", cuda::Type::float64)
      .value("float16", cuda::Type::float16)
      .value("bfloat16", cuda::Type::bfloat16);
  py::enum_<cuda::TeamKind>(m, "CudaTeam")
      .value("warp", cuda::TeamKind::warp)
      .value("block", cuda::TeamKind::block)
      .value("cluster", cuda::TeamKind::cluster)
      .value("grid", cuda::TeamKind::grid);
  py::class_<cuda::Task>(m, "CudaTask")
      .def(py::init(&cuda_task), py::arg("cost"), py::arg("type"), py::arg("problems"),
           py::arg("rows"), py::arg("cols"), py::arg("problem_stride"), py::arg("row_stride"),
           py::arg("sense"), py::arg("prices"));
  m.def(
      "cuda_facts",
      [] {
        const cuda::Facts f = cuda::facts();
        return py::make_tuple(f.built, f.compiled, f.driver, f.devices, f.trouble);
      },
      "(built, compiled for, driver, devices, trouble)");
  m.def("cuda_workspace", &cuda::workspace_bytes, py::arg("task"), py::arg("team"),
        py::arg("device"), "Bytes of device memory that cuda_solve works in.");
  m.def("cuda_solve", &cuda_solve, py::arg("task"), py::arg("team"), py::arg("col_of_row"),
        py::arg("row_dual"), py::arg("col_dual"), py::arg("reports"), py::arg("workspace"),
        py::arg("device"), py::arg("stream"),
        "Puts the solve on a stream; everything is an address on the device, duals may be 0.");
  m.def(
      "instruction_set", [] { return row_kernels().name; },
      "Which row kernels are in use: avx512, avx2 or portable.");
  m.def("margins", &margins_array, py::arg("cost"), py::arg("sense"), py::arg("col_of_row"),
        py::arg("row_dual"), py::arg("col_dual"), py::arg("search_limit"),
        "(loss, exact) of every row; duals of the minimised costs.");
  py::class_<Threads>(m, "Threads", "Torch's threads, for the passes over its tensors.")
      .def(py::init(&threads_beside_torch), py::arg("threads"));
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
