// The threads of torch.
//
// Moments are taken between torch's own passes, whose OpenMP threads wait for more by spinning:
// others would have to wait until they are done.  So the pool that torch has loaded is used, found
// by name at run time; where there is none of GCC's interface, threads are bmatch's own.
#pragma once

#include <memory>

#include "threads.h"

namespace bmatch {

std::unique_ptr<Threads> threads_beside_torch(int threads);

}  // namespace bmatch
