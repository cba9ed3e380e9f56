// The types of matrices that are read as they are stored.
//
// Rows of float32 and float64 are scanned where they lie.  All others are widened row by row, to
// the least of these two that holds every number of the type: so the scans know two types, and no
// more than a row is ever converted at a time.
#pragma once

#include <cstdint>
#include <type_traits>

#include "narrow_floats.h"

namespace bmatch {

// A byte of NumPy's or torch's: true if it is not zero.
struct Boolean {
  std::uint8_t byte;
};

inline float widened(Boolean value) { return value.byte != 0 ? 1.0f : 0.0f; }
inline float widened(std::int8_t value) { return value; }
inline float widened(std::uint8_t value) { return value; }
inline float widened(std::int16_t value) { return value; }
inline float widened(std::uint16_t value) { return value; }
inline double widened(std::int32_t value) { return value; }
inline double widened(std::uint32_t value) { return value; }

template <typename T>
using Wide = decltype(widened(T{}));

template <typename T>
constexpr bool kIsWide = std::is_same_v<T, Wide<T>>;

}  // namespace bmatch
