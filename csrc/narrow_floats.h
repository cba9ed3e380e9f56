// Floating types of 16 bits, and every number in the type in which it is computed with.
#pragma once

#include <cstdint>
#include <cstring>

namespace bmatch {

// The upper half of a float32.
struct Bfloat16 {
  std::uint16_t bits;
};

// IEEE 754's binary16.
struct Half {
  std::uint16_t bits;
};

inline float float_of(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float widened(Bfloat16 value) { return float_of(std::uint32_t{value.bits} << 16); }

// Without branches and in every vector's instructions, whether or not a processor has conversions
// of its own: the exponent's bias goes from 15 to 127.  Subnormal numbers take the shape of normal
// ones from 2^-14 on, which is then taken off; so none is met that a processor may flush to zero.
inline float widened(Half value) {
  constexpr std::uint32_t kUnit = 1u << 23;  // of the exponent
  const std::uint32_t magnitude = value.bits & 0x7fffu;
  const std::uint32_t moved = magnitude << 13;
  const std::uint32_t subnormal = bits_of(float_of(moved + 113 * kUnit) - float_of(113 * kUnit));
  const std::uint32_t normal = moved + (magnitude < 0x7c00u ? 112 : 224) * kUnit;  // 224: infinite
  const std::uint32_t sign = (value.bits & 0x8000u) << 16;
  return float_of((magnitude < 0x0400u ? subnormal : normal) | sign);
}

inline float widened(float value) { return value; }
inline double widened(double value) { return value; }

}  // namespace bmatch
