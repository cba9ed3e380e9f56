// What stands in for the .cu files where there is no CUDA compiler.
#include <stdexcept>

#include "receipt.h"
#include "solver.h"

namespace bmatch::cuda {
namespace {

[[noreturn]] void refuse() {
  throw std::runtime_error("bmatch was built without CUDA: no nvcc was found");
}

}  // namespace

struct Mailbox {};

Facts facts() { return {false, "", 0, 0, "bmatch was built without CUDA: no nvcc was found"}; }
std::size_t workspace_bytes(const Task&, TeamKind, int) { refuse(); }
void solve(const Task&, TeamKind, const Answer&, void*, int, void*) { refuse(); }
bool is_captured(int, void*) { refuse(); }
Receipt::Receipt(std::int64_t, int) { refuse(); }
Receipt::~Receipt() = default;
Report* Receipt::reports() const { refuse(); }
void Receipt::follow(void*) { refuse(); }
bool Receipt::has_arrived() const { refuse(); }

}  // namespace bmatch::cuda
