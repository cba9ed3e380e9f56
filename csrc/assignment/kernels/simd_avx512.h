// Vectors of 16 floats and 8 doubles in AVX-512.  Included inside the file that turns it on.
#pragma once

#include "simd_least.h"

// How a pass over rows keeps the memory busy: one row, with what comes next fetched ahead.
constexpr int kSideBySide = 1;
constexpr bool kFetches = true;

struct Mask8 {
  __mmask8 m;
  static Mask8 of(std::uint8_t bits) { return {bits}; }
  unsigned bits() const { return m; }
  bool any() const { return m != 0; }
  Mask8 without(Mask8 b) const { return {static_cast<__mmask8>(m & ~b.m)}; }
};

inline Mask8 operator&(Mask8 a, Mask8 b) { return {static_cast<__mmask8>(a.m & b.m)}; }
inline Mask8 operator|(Mask8 a, Mask8 b) { return {static_cast<__mmask8>(a.m | b.m)}; }

struct Doubles {
  static constexpr int kLanes = 8;
  __m512d x;

  static Doubles all(double a) { return {_mm512_set1_pd(a)}; }
  static Doubles iota() { return {_mm512_setr_pd(0, 1, 2, 3, 4, 5, 6, 7)}; }
  static Doubles load(const double* p) { return {_mm512_loadu_pd(p)}; }
  static Doubles load(const double* p, CostBits<double> b) { return bits(_mm512_loadu_pd(p), b); }
  static Doubles load(const float* p, CostBits<float> b) {
    const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m256i keep = _mm256_set1_epi32(static_cast<int>(b.keep));
    const __m256i flip = _mm256_set1_epi32(static_cast<int>(b.flip));
    return {
        _mm512_cvtps_pd(_mm256_castsi256_ps(_mm256_xor_si256(_mm256_and_si256(raw, keep), flip)))};
  }
  static Doubles gather(const double* p, const Index* at) {  // eight loads beat the instruction
    return {_mm512_setr_pd(p[at[0]], p[at[1]], p[at[2]], p[at[3]], p[at[4]], p[at[5]], p[at[6]],
                           p[at[7]])};
  }
  void store(double* p) const { _mm512_storeu_pd(p, x); }

 private:
  static Doubles bits(__m512d raw, CostBits<double> b) {
    const __m512i keep = _mm512_set1_epi64(static_cast<long long>(b.keep));
    const __m512i flip = _mm512_set1_epi64(static_cast<long long>(b.flip));
    return {_mm512_castsi512_pd(
        _mm512_ternarylogic_epi64(_mm512_castpd_si512(raw), keep, flip, 0x6a))};  // (a & b) ^ c
  }
};

inline Doubles operator+(Doubles a, Doubles b) { return {_mm512_add_pd(a.x, b.x)}; }
inline Doubles operator-(Doubles a, Doubles b) { return {_mm512_sub_pd(a.x, b.x)}; }
inline Doubles min(Doubles a, Doubles b) { return {_mm512_min_pd(a.x, b.x)}; }
inline Doubles max(Doubles a, Doubles b) { return {_mm512_max_pd(a.x, b.x)}; }
inline Mask8 operator<(Doubles a, Doubles b) { return {_mm512_cmp_pd_mask(a.x, b.x, _CMP_LT_OQ)}; }
inline Mask8 operator==(Doubles a, Doubles b) { return {_mm512_cmp_pd_mask(a.x, b.x, _CMP_EQ_OQ)}; }
inline Doubles select(Mask8 m, Doubles yes, Doubles no) {
  return {_mm512_mask_blend_pd(m.m, no.x, yes.x)};
}
inline double least(Doubles a) { return _mm512_reduce_min_pd(a.x); }

// What products of factors take; see factors_inl.h for the tile.
constexpr int kTileRows = 8, kTileVectors = 2;
inline Doubles operator*(Doubles a, Doubles b) { return {_mm512_mul_pd(a.x, b.x)}; }
inline Doubles fused(Doubles a, Doubles b, Doubles sum) {
  return {_mm512_fmadd_pd(a.x, b.x, sum.x)};
}
inline Doubles root(Doubles a) { return {_mm512_sqrt_pd(a.x)}; }
inline Doubles magnitude(Doubles a) { return {_mm512_abs_pd(a.x)}; }
inline Doubles wide(const double* p) { return Doubles::load(p); }
inline Doubles wide(const float* p) { return {_mm512_cvtps_pd(_mm256_loadu_ps(p))}; }

// The two smallest numbers of both vectors together, a <= b lane by lane.
inline TwoLeast least_two(Doubles a, Doubles b) {
  const __m256d a0 = _mm512_castpd512_pd256(a.x), a1 = _mm512_extractf64x4_pd(a.x, 1);
  const __m256d b0 = _mm512_castpd512_pd256(b.x), b1 = _mm512_extractf64x4_pd(b.x, 1);
  const __m256d low = _mm256_min_pd(a0, a1);
  const __m256d high = _mm256_min_pd(_mm256_max_pd(a0, a1), _mm256_min_pd(b0, b1));
  return least_two(low, high);
}

// Eight rows become eight columns.
inline void transpose(Doubles (&r)[8]) {
  __m512d even[4], odd[4];  // columns of rows 2k and 2k + 1, side by side
  for (int k = 0; k < 4; ++k) {
    even[k] = _mm512_unpacklo_pd(r[2 * k].x, r[2 * k + 1].x);
    odd[k] = _mm512_unpackhi_pd(r[2 * k].x, r[2 * k + 1].x);
  }
  const auto spread = [&r](const __m512d(&pairs)[4], int at) {
    const __m512d low = _mm512_shuffle_f64x2(pairs[0], pairs[1], 0x88);
    const __m512d high = _mm512_shuffle_f64x2(pairs[2], pairs[3], 0x88);
    r[at].x = _mm512_shuffle_f64x2(low, high, 0x88);
    r[at + 4].x = _mm512_shuffle_f64x2(low, high, 0xdd);
    const __m512d low2 = _mm512_shuffle_f64x2(pairs[0], pairs[1], 0xdd);
    const __m512d high2 = _mm512_shuffle_f64x2(pairs[2], pairs[3], 0xdd);
    r[at + 2].x = _mm512_shuffle_f64x2(low2, high2, 0x88);
    r[at + 6].x = _mm512_shuffle_f64x2(low2, high2, 0xdd);
  };
  spread(even, 0);
  spread(odd, 1);
}

inline void store_where(Index* p, Mask8 m, Index value) {
  _mm256_mask_storeu_epi32(p, m.m, _mm256_set1_epi32(value));
}

struct Floats {
  static constexpr int kLanes = 16;
  __m512 x;

  static Floats all(float a) { return {_mm512_set1_ps(a)}; }
  static Floats load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Floats load(const float* p, CostBits<float> b) {
    const __m512i keep = _mm512_set1_epi32(static_cast<int>(b.keep));
    const __m512i flip = _mm512_set1_epi32(static_cast<int>(b.flip));
    return {
        _mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_loadu_si512(p), keep, flip, 0x6a))};
  }
  // Rounded toward minus infinity.
  static Floats down(Doubles low, Doubles high) {
    constexpr int mode = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
    const __m256 a = _mm512_cvt_roundpd_ps(low.x, mode);
    const __m256 b = _mm512_cvt_roundpd_ps(high.x, mode);
    return {_mm512_insertf32x8(_mm512_castps256_ps512(a), b, 1)};
  }
  void store(float* p) const { _mm512_storeu_ps(p, x); }
};

inline Floats operator-(Floats a, Floats b) { return {_mm512_sub_ps(a.x, b.x)}; }
inline Floats min(Floats a, Floats b) { return {_mm512_min_ps(a.x, b.x)}; }
inline Floats max(Floats a, Floats b) { return {_mm512_max_ps(a.x, b.x)}; }
inline unsigned bits_le(Floats a, Floats b) { return _mm512_cmp_ps_mask(a.x, b.x, _CMP_LE_OQ); }
inline int count_le(Floats a, Floats b) { return __builtin_popcount(bits_le(a, b)); }
inline float least(Floats a) { return _mm512_reduce_min_ps(a.x); }
inline float greatest(Floats a) { return _mm512_reduce_max_ps(a.x); }

// kHalves numbers in float32.
constexpr int kHalves = 16;
inline void widen_halves(const Half* p, float* out) {
  _mm512_storeu_ps(out, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
}

struct NanFlag {
  unsigned seen = 0;
  void see(Floats a, Floats b) { seen |= _mm512_cmp_ps_mask(a.x, b.x, _CMP_UNORD_Q); }
  void see(Doubles a, Doubles b) { seen |= _mm512_cmp_pd_mask(a.x, b.x, _CMP_UNORD_Q); }
  bool any() const { return seen != 0; }
};
