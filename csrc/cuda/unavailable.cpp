// What stands in for solver.cu where there is no CUDA compiler.
#include <stdexcept>

#include "solver.h"

namespace bmatch::cuda {
namespace {

[[noreturn]] void refuse() {
  throw std::runtime_error("bmatch was built without CUDA: no nvcc was found");
}

}  // namespace

Facts facts() { return {false, "", 0, 0, "bmatch was built without CUDA: no nvcc was found"}; }
std::size_t workspace_bytes(const Task&, TeamKind, int) { refuse(); }
void solve(const Task&, TeamKind, const Answer&, void*, int, void*) { refuse(); }

}  // namespace bmatch::cuda
