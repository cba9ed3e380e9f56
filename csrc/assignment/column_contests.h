// How much the columns of a matrix are at odds, told by one read of its rows: what a search that
// begins at the columns would meet, before they are copied for it.
#pragma once

#include <cstdint>
#include <optional>

#include "context.h"

namespace bmatch {

// Of a square matrix whose costs are valid, about how many columns have their least cost in one row
// only, in which another column has its own. Columns whose least cost is the greatest of all
// columns' do not count: where most costs are one large number, they cost the same everywhere.
// None if the user wants to stop.
std::optional<std::int64_t> column_contests(const Context& context);

}  // namespace bmatch
