// Rows in a wider type.  Included by row_kernels_inl.h.
#pragma once

// Left to the compiler, which has a vector's worth of each conversion in every instruction set.
template <typename T>
void widen(const T* __restrict row, Index cols, Wide<T>* __restrict out) {
  for (Index j = 0; j < cols; ++j) out[j] = widened(row[j]);
}

constexpr WidenKernels widen_kernels() {
  return {widen<Half>,          widen<Bfloat16>,     widen<Boolean>,
          widen<std::int8_t>,   widen<std::uint8_t>, widen<std::int16_t>,
          widen<std::uint16_t>, widen<std::int32_t>, widen<std::uint32_t>};
}
