// Which instruction set is in use, and BMATCH_ISA, which asks for one when bmatch is loaded.
#include "instruction_set.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "module.h"

namespace py = pybind11;

namespace bmatch::python {
namespace {

py::list names() {
  py::list out;
  for (const InstructionSet set : instruction_sets()) out.append(name_of(set));
  return out;
}

// A set that cannot be had is a warning, as the features in NPY_DISABLE_CPU_FEATURES are to NumPy:
// answers are the same in every set, so a job whose environment names one that some of its machines
// lack need not stop there.  NumPy's ImportWarning is not shown unless asked for, which would leave
// a misspelt name unseen; this one is shown.
void use_environment() {
  const char* const asked = std::getenv("BMATCH_ISA");
  if (asked == nullptr || *asked == '\0') return;
  try {
    use(asked);
  } catch (const std::invalid_argument& error) {
    const std::string text =
        "BMATCH_ISA: " + std::string(error.what()) + "; " + name_of(instruction_set()) + " is used";
    if (PyErr_WarnEx(PyExc_RuntimeWarning, text.c_str(), 1) != 0) throw py::error_already_set();
  }
}

}  // namespace

void define_instruction_sets(py::module_& m) {
  m.def("instruction_sets", &names,
        "Names of the instruction sets that this machine can run, best first.");
  m.def(
      "instruction_set", [] { return name_of(instruction_set()); },
      "Name of the one whose kernels are in use.");
  m.def(
      "use", [](const std::string& name) { use(name); }, py::arg("name"),
      "Takes the kernels of another instruction set, in all threads. Answers stay the same.");
  use_environment();
}

}  // namespace bmatch::python
