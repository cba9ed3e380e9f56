// The kernels of products in AVX-512 and, for bfloat16, with its instructions for that: compiled
// for them by pragma.
#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include "narrow_floats.h"
#include "product_kernel.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))), \
                             apply_to = function)
#else
#pragma GCC diagnostic ignored "-Wuninitialized"  // immintrin.h of GCC 12 sets both off
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512bf16")
#endif

namespace bmatch {
namespace {

constexpr int kLanes = 16;

// One float32 a word.
struct FloatWords {
  static constexpr int kTokens = 1;

  static __m512i load(const void* values, std::int64_t offset, std::int64_t, bool, __mmask16 cols) {
    return _mm512_maskz_loadu_epi32(cols, static_cast<const float*>(values) + offset);
  }
  static __m512 multiply_add(__m512i a, __m512i b, __m512 sum) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum);
  }
};

// Two tokens a word, the first in its lower half.
struct Bfloat16Words {
  static constexpr int kTokens = 2;

  static __m512i load(const void* values, std::int64_t offset, std::int64_t stride, bool both,
                      __mmask16 cols) {
    const auto* at = static_cast<const Bfloat16*>(values) + offset;
    const __m512i first = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(cols, at));
    if (!both) return first;
    const __m512i second = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(cols, at + stride));
    return _mm512_or_si512(first, _mm512_slli_epi32(second, 16));
  }
  static __m512 multiply_add(__m512i a, __m512i b, __m512 sum) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
  }
};

__mmask16 lanes(std::int64_t count) {
  return static_cast<__mmask16>(count >= kLanes ? 0xffff : count <= 0 ? 0 : (1 << count) - 1);
}

// Fetches what the next slice of as many tokens will read: the columns of a panel are too short for
// the processor to see it coming.
template <typename Words>
void fetch_ahead(const ProductKernel::Rows& rows, std::int64_t token, std::int64_t col) {
  constexpr std::int64_t kBytes = sizeof(std::uint32_t) / Words::kTokens;
  for (int t = 0; t < Words::kTokens; ++t) {
    const std::int64_t number = (token + t + rows.tokens) * rows.stride + col;
    _mm_prefetch(reinterpret_cast<const char*>(reinterpret_cast<std::intptr_t>(rows.values) +
                                               number * kBytes),
                 _MM_HINT_T1);
  }
}

template <typename Words, int kCols>
void pack(const ProductKernel::Rows& rows, std::int64_t words, std::uint32_t* panels) {
  constexpr std::int64_t kVectors = (kCols + kLanes - 1) / kLanes;
  for (std::int64_t col = 0; col < rows.cols; col += kCols, panels += words * kCols) {
    __mmask16 read[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      read[v] = lanes(std::min<std::int64_t>(kCols, rows.cols - col) - v * kLanes);
    }
    std::uint32_t* out = panels;
    for (std::int64_t t = 0; t < rows.tokens; t += Words::kTokens, out += kCols) {
      fetch_ahead<Words>(rows, t, col);
      for (int v = 0; v < kVectors; ++v) {
        const __m512i word = Words::load(rows.values, t * rows.stride + col + v * kLanes,
                                         rows.stride, t + 1 < rows.tokens, read[v]);
        _mm512_mask_storeu_epi32(out + v * kLanes, lanes(kCols - v * kLanes), word);
      }
    }
  }
}

template <typename Words>
void multiply_panels(const std::uint32_t* tall, const std::uint32_t* wide, int words,
                     const ProductKernel::Tile& tile) {
  static_assert(kWide == 2 * kLanes);
  __m512 sum[kTall][2];
  for (int i = 0; i < kTall; ++i) sum[i][0] = sum[i][1] = _mm512_setzero_ps();
  for (int i = 0; i < tile.rows; ++i) {  // they are far apart, and needed at the end
    __builtin_prefetch(tile.products + i * tile.stride, 1);
    __builtin_prefetch(tile.products + i * tile.stride + kLanes, 1);
  }
  for (int k = 0; k < words; ++k, tall += kTall, wide += kWide) {
    const __m512i low = _mm512_loadu_si512(wide), high = _mm512_loadu_si512(wide + kLanes);
#pragma GCC unroll 12
    for (int i = 0; i < kTall; ++i) {
      const __m512i all = _mm512_set1_epi32(static_cast<int>(tall[i]));
      sum[i][0] = Words::multiply_add(all, low, sum[i][0]);
      sum[i][1] = Words::multiply_add(all, high, sum[i][1]);
    }
  }
  const __mmask16 low = lanes(tile.cols), high = lanes(tile.cols - kLanes);
#pragma GCC unroll 12
  for (int i = 0; i < kTall; ++i) {
    if (i == tile.rows) break;
    float* const out = tile.products + i * tile.stride;
    if (!tile.first) {
      sum[i][0] = _mm512_add_ps(sum[i][0], _mm512_maskz_loadu_ps(low, out));
      sum[i][1] = _mm512_add_ps(sum[i][1], _mm512_maskz_loadu_ps(high, out + kLanes));
    }
    _mm512_mask_storeu_ps(out, low, sum[i][0]);
    _mm512_mask_storeu_ps(out + kLanes, high, sum[i][1]);
  }
}

template <typename Words>
constexpr ProductKernel kernel() {
  return {Words::kTokens, pack<Words, kTall>, pack<Words, kWide>, multiply_panels<Words>};
}

}  // namespace

constexpr ProductKernel kFloatProduct = kernel<FloatWords>();
constexpr ProductKernel kBfloat16Product = kernel<Bfloat16Words>();

}  // namespace bmatch

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
