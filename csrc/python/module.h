// The parts of bmatch._core, each bound in the file of its name.
#pragma once

#include <pybind11/pybind11.h>

namespace bmatch::python {

void define_instruction_sets(pybind11::module_& m);
void define_assignment(pybind11::module_& m);
void define_pairs(pybind11::module_& m);
void define_factors(pybind11::module_& m);  // takes what define_assignment defines
void define_sparse(pybind11::module_& m);   // takes the Sense and Outcome of define_assignment
void define_cuda(pybind11::module_& m);     // takes the Sense of define_assignment
void define_correlation(pybind11::module_& m);
void define_files(pybind11::module_& m);

}  // namespace bmatch::python
