// The passes over files: addresses of what is mapped, and of room for what is written, which Python
// has checked.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "arrays.h"
#include "files/sha256.h"
#include "files/take.h"
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

void sha256_blocks_at(Array<std::uint32_t>& states, const Array<std::uintptr_t>& data,
                      std::int64_t count) {
  const auto lanes = static_cast<int>(data.size());
  if (states.size() != 8 * lanes) throw std::invalid_argument("states are [8, lanes]");
  std::uint32_t* const words = states.mutable_data();
  const auto* const from = reinterpret_cast<const unsigned char* const*>(data.data());
  const py::gil_scoped_release release;
  sha256_blocks(lanes, words, from, count);
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
  m.def("sha256_lanes", &sha256_lanes, "Streams that are hashed at once; 1: no better than alone.");
  m.def("sha256_blocks", &sha256_blocks_at, py::arg("states").noconvert(), py::arg("data"),
        py::arg("count"), "Takes blocks of 64 bytes at these addresses into states [8, lanes].");
}

}  // namespace bmatch::python
