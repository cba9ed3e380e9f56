// The upper half of a float32.
#pragma once

#include <cstdint>
#include <cstring>

namespace bmatch {

struct Bfloat16 {
  std::uint16_t bits;
};

// The same number in the type in which it is summed.
inline float widened(Bfloat16 value) {
  const std::uint32_t bits = static_cast<std::uint32_t>(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}
inline float widened(float value) { return value; }
inline double widened(double value) { return value; }

}  // namespace bmatch
