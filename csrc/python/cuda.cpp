// The solver on a CUDA device: addresses of its memory, which Python has checked.
#include "cuda/solver.h"

#include <pybind11/native_enum.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>

#include "cuda/receipt.h"
#include "module.h"
#include "signal_poll.h"

namespace py = pybind11;

namespace bmatch::python {
namespace {

cuda::Task task_at(std::uintptr_t cost, cuda::Type type, std::int64_t problems, std::int64_t rows,
                   std::int64_t cols, std::int64_t problem_stride, std::int64_t row_stride,
                   Sense sense, std::uintptr_t prices, std::uintptr_t sizes,
                   std::int32_t most_work) {
  return {reinterpret_cast<const void*>(cost),
          type,
          problems,
          rows,
          cols,
          problem_stride,
          row_stride,
          sense,
          reinterpret_cast<const double*>(prices),
          reinterpret_cast<const std::int32_t*>(sizes),
          most_work};
}

// With room for the reports that a CUDA graph writes, at the end.
std::size_t workspace_at(const cuda::Task& task, cuda::TeamKind team, int device) {
  return cuda::workspace_bytes(task, team, device) + task.problems * sizeof(cuda::Report);
}

std::unique_ptr<cuda::Receipt> solve_at(cuda::Task task, cuda::TeamKind team,
                                        std::uintptr_t col_of_row, std::uintptr_t row_dual,
                                        std::uintptr_t col_dual, std::uintptr_t workspace,
                                        int device, std::uintptr_t stream) {
  const py::gil_scoped_release release;
  void* const queue = reinterpret_cast<void*>(stream);
  std::unique_ptr<cuda::Receipt> receipt;
  cuda::Report* reports;
  if (cuda::is_captured(device, queue)) {
    const std::size_t end = workspace + cuda::workspace_bytes(task, team, device);
    reports = reinterpret_cast<cuda::Report*>(end);
    task.most_work = 0;  // nobody will hear that another has to go on
  } else {
    receipt = std::make_unique<cuda::Receipt>(task.problems, device);
    reports = receipt->reports();
  }
  cuda::solve(task, team,
              {reinterpret_cast<std::int64_t*>(col_of_row), reinterpret_cast<double*>(row_dual),
               reinterpret_cast<double*>(col_dual), reports},
              reinterpret_cast<void*>(workspace), device, queue);
  if (receipt != nullptr) receipt->follow(queue);
  return receipt;
}

// Asks the device again and again: a wait of the driver's hears no signal.
py::array_t<cuda::Report> wait_for(const cuda::Receipt& receipt) {
  bool interrupted = false;
  if (!receipt.has_arrived()) {
    const py::gil_scoped_release release;
    SignalPoll poll(std::chrono::milliseconds(1));
    while (!receipt.has_arrived() && !(interrupted = poll())) std::this_thread::yield();
  }
  if (interrupted) throw py::error_already_set();
  return py::array_t<cuda::Report>(receipt.problems(), receipt.reports());
}

}  // namespace

void define_cuda(py::module_& m) {
  py::native_enum<cuda::Type>(m, "CudaType", "enum.Enum", "What a matrix consists of.")
      .value("float32", cuda::Type::float32)
      .value("float64", cuda::Type::float64)
      .value("float16", cuda::Type::float16)
      .value("bfloat16", cuda::Type::bfloat16)
      .finalize();
  py::native_enum<cuda::TeamKind>(m, "CudaTeam", "enum.Enum",
                                  "Which threads solve one problem together.")
      .value("warp", cuda::TeamKind::warp)
      .value("block", cuda::TeamKind::block)
      .value("grid", cuda::TeamKind::grid)
      .finalize();
  py::native_enum<cuda::Outcome>(
      m, "CudaOutcome", "enum.IntEnum",
      "How a problem ended; dwarfed and costly: the host has to solve it.")
      .value("optimal", cuda::kOptimal)
      .value("infeasible", cuda::kInfeasible)
      .value("invalid", cuda::kInvalid)
      .value("dwarfed", cuda::kDwarfed)
      .value("broken", cuda::kBroken)
      .value("costly", cuda::kCostly)
      .finalize();
  PYBIND11_NUMPY_DTYPE(cuda::Report, outcome, bidding_rounds, forest_phases, forest_rounds, rescans,
                       whole_rows, objective, gap);
  m.attr("CudaReport") = py::dtype::of<cuda::Report>();
  m.attr("cuda_trapped") = cuda::kTrapped;
  py::class_<cuda::Task>(m, "CudaTask", "Problems of one shape on a device.")
      .def(py::init(&task_at), py::arg("cost"), py::arg("type"), py::arg("problems"),
           py::arg("rows"), py::arg("cols"), py::arg("problem_stride"), py::arg("row_stride"),
           py::arg("sense"), py::arg("prices"), py::arg("sizes"), py::arg("most_work"));
  py::class_<cuda::Facts>(m, "CudaFacts", "What this build and this machine have.")
      .def_readonly("built", &cuda::Facts::built, "Whether with a CUDA compiler.")
      .def_readonly("compiled", &cuda::Facts::compiled, "For which devices, by which toolkit.")
      .def_readonly("driver", &cuda::Facts::driver,
                    "Its CUDA version, 1000 major + 10 minor; 0 without a driver.")
      .def_readonly("devices", &cuda::Facts::devices)
      .def_readonly("trouble", &cuda::Facts::trouble, "Why no device can be used, or empty.");
  m.def("cuda_facts", &cuda::facts);
  m.def("cuda_workspace", &workspace_at, py::arg("task"), py::arg("team"), py::arg("device"),
        "Bytes of device memory that cuda_solve works in.");
  py::class_<cuda::Receipt>(m, "CudaReceipt", "Reports of a solve that are on their way.")
      .def("wait", &wait_for, "Waits for them: an array of CudaReport. Ctrl-C ends the wait.");
  m.def("cuda_solve", &solve_at, py::arg("task"), py::arg("team"), py::arg("col_of_row"),
        py::arg("row_dual"), py::arg("col_dual"), py::arg("workspace"), py::arg("device"),
        py::arg("stream"),
        "Puts the solve on a stream; everything is an address on the device, duals may be 0. Rows "
        "of an infeasible problem that compete for too few columns get the column cuda_trapped. "
        "Returns a receipt, or None while a CUDA graph is captured, which cannot wait.");
}

}  // namespace bmatch::python
