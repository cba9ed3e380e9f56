// Floats as the integers that are ordered like them.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

namespace bmatch {

inline std::int32_t order_of(float x) {
  std::int32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits < 0 ? static_cast<std::int32_t>(0x80000000u) - bits : bits;
}

inline float from_order(std::int32_t order) {
  const std::int32_t bits = order < 0 ? static_cast<std::int32_t>(0x80000000u) - order : order;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

// Neighbours among the floats, -infinity and infinity included; what lies beyond these is they.
inline float next_above(float x) {
  return x == std::numeric_limits<float>::infinity() ? x : from_order(order_of(x) + 1);
}
inline float next_below(float x) {
  return x == -std::numeric_limits<float>::infinity() ? x : from_order(order_of(x) - 1);
}

}  // namespace bmatch
