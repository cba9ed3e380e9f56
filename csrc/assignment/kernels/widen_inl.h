// Rows in a wider type.  Included by row_kernels_inl.h.
#pragma once

// Left to the compiler, which knows an instruction for each conversion but that of a half.
template <typename T>
void widen(const T* __restrict row, Index cols, Wide<T>* __restrict out) {
  for (Index j = 0; j < cols; ++j) out[j] = widened(row[j]);
}

inline void widen_half(const Half* __restrict row, Index cols, float* __restrict out) {
  Index j = 0;
  for (; j + kHalves <= cols; j += kHalves) widen_halves(row + j, out + j);
  for (; j < cols; ++j) out[j] = widened(row[j]);
}

constexpr WidenKernels widen_kernels() {
  return {widen_half,           widen<Bfloat16>,     widen<Boolean>,
          widen<std::int8_t>,   widen<std::uint8_t>, widen<std::int16_t>,
          widen<std::uint16_t>, widen<std::int32_t>, widen<std::uint32_t>};
}
