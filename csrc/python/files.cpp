// The passes over files: addresses of what is mapped, and of room for what is written, which Python
// has checked.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include "arrays.h"
#include "files/look.h"
#include "files/take.h"
#include "files/xxh3.h"
#include "module.h"

namespace py = pybind11;

namespace bmatch::python {
namespace {

template <typename T>
const T* data_of(const std::optional<Array<T>>& values, py::ssize_t size) {
  if (!values) return nullptr;
  if (values->size() != size) throw std::invalid_argument("one entry for each row or column");
  return values->data();
}

// A take with the arrays that it points into.
class HeldTake {
 public:
  HeldTake(std::uintptr_t source, Array<std::int64_t> starts, std::optional<Array<bool>> turned,
           std::int64_t cols, std::optional<Array<std::int32_t>> columns,
           std::optional<Array<bool>> turned_columns, int itemsize)
      : starts_(std::move(starts)),
        turned_(std::move(turned)),
        columns_(std::move(columns)),
        turned_columns_(std::move(turned_columns)),
        task_{reinterpret_cast<const void*>(source),
              starts_.data(),
              data_of(turned_, starts_.size()),
              starts_.size(),
              cols,
              data_of(columns_, cols),
              data_of(turned_columns_, cols),
              itemsize} {}

  void write(std::uintptr_t out) const {
    const py::gil_scoped_release release;
    take(task_, reinterpret_cast<void*>(out));
  }

  void write_to_file(int file, std::int64_t at, std::int64_t piece, int threads) const {
    try {
      const py::gil_scoped_release release;
      take_to_file(task_, file, at, piece, threads);
    } catch (const std::system_error& error) {
      errno = error.code().value();
      PyErr_SetFromErrno(PyExc_OSError);
      throw py::error_already_set();
    }
  }

 private:
  Array<std::int64_t> starts_;
  std::optional<Array<bool>> turned_;
  std::optional<Array<std::int32_t>> columns_;
  std::optional<Array<bool>> turned_columns_;
  Take task_;
};

std::uint64_t largest_magnitude_at(std::uintptr_t entries, std::int64_t count, int itemsize) {
  const py::gil_scoped_release release;
  return largest_magnitude(reinterpret_cast<const void*>(entries), count, itemsize);
}

py::tuple look_over_at(std::uintptr_t content, std::int64_t count, int itemsize, int threads) {
  std::string hashes(static_cast<std::size_t>(count * Xxh3::kBytes), '\0');
  auto* const to = reinterpret_cast<unsigned char*>(hashes.data());
  std::uint64_t most = 0;
  {
    const py::gil_scoped_release release;
    most = look_over(reinterpret_cast<const void*>(content), count, itemsize, threads, to);
  }
  return py::make_tuple(py::bytes(hashes), most);
}

}  // namespace

void define_files(py::module_& m) {
  py::class_<HeldTake>(m, "Take",
                       "Rows: of each `cols` entries of the source behind its start, or those of "
                       "these columns, with the sign bits of turned rows and columns turned.")
      .def(py::init<std::uintptr_t, Array<std::int64_t>, std::optional<Array<bool>>, std::int64_t,
                    std::optional<Array<std::int32_t>>, std::optional<Array<bool>>, int>(),
           py::arg("source"), py::arg("starts"), py::arg("turned"), py::arg("cols"),
           py::arg("columns"), py::arg("turned_columns"), py::arg("itemsize"))
      .def("write", &HeldTake::write, py::arg("out"), "Writes them to an address.")
      .def("write_to_file", &HeldTake::write_to_file, py::arg("file"), py::arg("at"),
           py::arg("piece"), py::arg("threads"),
           "Writes them to a file at a place, about so many bytes at a time.");
  m.def("largest_magnitude", &largest_magnitude_at, py::arg("entries"), py::arg("count"),
        py::arg("itemsize"), "The largest entry, as bits without a sign.");
  m.attr("HASHED_PIECE") = kHashedPiece;
  m.def("look_over", &look_over_at, py::arg("content"), py::arg("count"), py::arg("itemsize"),
        py::arg("threads"),
        "XXH3-128 of so many pieces at an address, and the largest entry, as bits without a sign.");
}

}  // namespace bmatch::python
