// bmatch._core.  This folder alone knows Python.
//
// Python decides what is solved and how a matrix lies; here its arrays become views, the GIL is
// released, and results become arrays.  Tensors come as addresses, so that one build serves every
// torch.
#include "module.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "The assignment solver of bmatch, and its passes over moments and files, in C++.";
  bmatch::python::define_instruction_sets(m);
  bmatch::python::define_assignment(m);
  bmatch::python::define_pairs(m);
  bmatch::python::define_factors(m);
  bmatch::python::define_sparse(m);
  bmatch::python::define_cuda(m);
  bmatch::python::define_correlation(m);
  bmatch::python::define_files(m);
}
