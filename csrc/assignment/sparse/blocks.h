// Greatest matchings and the blocks of assignment/maximum_matching.h, in memory and time that go by
// the entries.
#pragma once

#include "assignment/maximum_matching.h"
#include "costs.h"

namespace bmatch::sparse {

Step find_blocks(const Costs& costs, const Interrupted& interrupted, Blocks& blocks);

}  // namespace bmatch::sparse
