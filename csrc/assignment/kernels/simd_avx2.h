// Vectors of 16 floats and 8 doubles in AVX2, as pairs of registers.  Included inside the file
// that turns it on.
#pragma once

#include "simd_least.h"

// How a pass over rows keeps the memory busy: that many side by side, nothing fetched (Zen 3).
constexpr int kSideBySide = kGroup;
constexpr bool kFetches = false;

struct Mask8 {
  __m256d a, b;
  static Mask8 of(std::uint8_t bits) {
    const __m256i low = _mm256_setr_epi64x(1, 2, 4, 8), high = _mm256_setr_epi64x(16, 32, 64, 128);
    const __m256i all = _mm256_set1_epi64x(bits);
    return {_mm256_castsi256_pd(_mm256_cmpeq_epi64(_mm256_and_si256(all, low), low)),
            _mm256_castsi256_pd(_mm256_cmpeq_epi64(_mm256_and_si256(all, high), high))};
  }
  unsigned bits() const {
    return static_cast<unsigned>(_mm256_movemask_pd(a) | _mm256_movemask_pd(b) << 4);
  }
  bool any() const { return _mm256_movemask_pd(_mm256_or_pd(a, b)) != 0; }
  Mask8 without(Mask8 r) const { return {_mm256_andnot_pd(r.a, a), _mm256_andnot_pd(r.b, b)}; }
};

inline Mask8 operator&(Mask8 l, Mask8 r) {
  return {_mm256_and_pd(l.a, r.a), _mm256_and_pd(l.b, r.b)};
}
inline Mask8 operator|(Mask8 l, Mask8 r) {
  return {_mm256_or_pd(l.a, r.a), _mm256_or_pd(l.b, r.b)};
}

struct Doubles {
  static constexpr int kLanes = 8;
  __m256d a, b;

  static Doubles all(double x) { return {_mm256_set1_pd(x), _mm256_set1_pd(x)}; }
  static Doubles iota() { return {_mm256_setr_pd(0, 1, 2, 3), _mm256_setr_pd(4, 5, 6, 7)}; }
  static Doubles load(const double* p) { return {_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)}; }
  static Doubles load(const double* p, CostBits<double> c) {
    const __m256d keep = _mm256_castsi256_pd(_mm256_set1_epi64x(static_cast<long long>(c.keep)));
    const __m256d flip = _mm256_castsi256_pd(_mm256_set1_epi64x(static_cast<long long>(c.flip)));
    return {_mm256_xor_pd(_mm256_and_pd(_mm256_loadu_pd(p), keep), flip),
            _mm256_xor_pd(_mm256_and_pd(_mm256_loadu_pd(p + 4), keep), flip)};
  }
  static Doubles load(const float* p, CostBits<float> c) {
    const __m128 keep = _mm_castsi128_ps(_mm_set1_epi32(static_cast<int>(c.keep)));
    const __m128 flip = _mm_castsi128_ps(_mm_set1_epi32(static_cast<int>(c.flip)));
    return {_mm256_cvtps_pd(_mm_xor_ps(_mm_and_ps(_mm_loadu_ps(p), keep), flip)),
            _mm256_cvtps_pd(_mm_xor_ps(_mm_and_ps(_mm_loadu_ps(p + 4), keep), flip))};
  }
  static Doubles gather(const double* p, const Index* at) {
    return {_mm256_setr_pd(p[at[0]], p[at[1]], p[at[2]], p[at[3]]),
            _mm256_setr_pd(p[at[4]], p[at[5]], p[at[6]], p[at[7]])};
  }
  void store(double* p) const {
    _mm256_storeu_pd(p, a);
    _mm256_storeu_pd(p + 4, b);
  }
};

inline Doubles operator+(Doubles l, Doubles r) {
  return {_mm256_add_pd(l.a, r.a), _mm256_add_pd(l.b, r.b)};
}
inline Doubles operator-(Doubles l, Doubles r) {
  return {_mm256_sub_pd(l.a, r.a), _mm256_sub_pd(l.b, r.b)};
}
inline Doubles min(Doubles l, Doubles r) {
  return {_mm256_min_pd(l.a, r.a), _mm256_min_pd(l.b, r.b)};
}
inline Doubles max(Doubles l, Doubles r) {
  return {_mm256_max_pd(l.a, r.a), _mm256_max_pd(l.b, r.b)};
}
inline Mask8 operator<(Doubles l, Doubles r) {
  return {_mm256_cmp_pd(l.a, r.a, _CMP_LT_OQ), _mm256_cmp_pd(l.b, r.b, _CMP_LT_OQ)};
}
inline Mask8 operator==(Doubles l, Doubles r) {
  return {_mm256_cmp_pd(l.a, r.a, _CMP_EQ_OQ), _mm256_cmp_pd(l.b, r.b, _CMP_EQ_OQ)};
}
inline Doubles select(Mask8 m, Doubles yes, Doubles no) {
  return {_mm256_blendv_pd(no.a, yes.a, m.a), _mm256_blendv_pd(no.b, yes.b, m.b)};
}
inline double least(Doubles v) {
  const __m256d four = _mm256_min_pd(v.a, v.b);
  const __m128d two = _mm_min_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_min_sd(two, _mm_unpackhi_pd(two, two)));
}

// What products of factors take; see factors_inl.h for the tile.
constexpr int kTileRows = 4, kTileVectors = 1;
inline Doubles operator*(Doubles l, Doubles r) {
  return {_mm256_mul_pd(l.a, r.a), _mm256_mul_pd(l.b, r.b)};
}
inline Doubles fused(Doubles l, Doubles r, Doubles sum) {
  return {_mm256_fmadd_pd(l.a, r.a, sum.a), _mm256_fmadd_pd(l.b, r.b, sum.b)};
}
inline Doubles root(Doubles x) { return {_mm256_sqrt_pd(x.a), _mm256_sqrt_pd(x.b)}; }
inline Doubles magnitude(Doubles x) {
  const __m256d sign = _mm256_set1_pd(-0.0);
  return {_mm256_andnot_pd(sign, x.a), _mm256_andnot_pd(sign, x.b)};
}
inline Doubles wide(const double* p) { return Doubles::load(p); }
inline Doubles wide(const float* p) {
  return {_mm256_cvtps_pd(_mm_loadu_ps(p)), _mm256_cvtps_pd(_mm_loadu_ps(p + 4))};
}

// The two smallest numbers of both vectors together, a <= b lane by lane.
inline TwoLeast least_two(Doubles a, Doubles b) {
  const __m256d low = _mm256_min_pd(a.a, a.b);
  const __m256d high = _mm256_min_pd(_mm256_max_pd(a.a, a.b), _mm256_min_pd(b.a, b.b));
  return least_two(low, high);
}

// Eight rows become eight columns.
inline void transpose(Doubles (&r)[8]) {
  const auto turned = [](__m256d(&m)[4]) {
    const __m256d a = _mm256_unpacklo_pd(m[0], m[1]), b = _mm256_unpackhi_pd(m[0], m[1]);
    const __m256d c = _mm256_unpacklo_pd(m[2], m[3]), d = _mm256_unpackhi_pd(m[2], m[3]);
    m[0] = _mm256_permute2f128_pd(a, c, 0x20);
    m[1] = _mm256_permute2f128_pd(b, d, 0x20);
    m[2] = _mm256_permute2f128_pd(a, c, 0x31);
    m[3] = _mm256_permute2f128_pd(b, d, 0x31);
  };
  __m256d quarters[4][4];  // upper left, upper right, lower left, lower right
  for (int k = 0; k < 4; ++k) {
    quarters[0][k] = r[k].a;
    quarters[1][k] = r[k].b;
    quarters[2][k] = r[k + 4].a;
    quarters[3][k] = r[k + 4].b;
  }
  for (auto& quarter : quarters) turned(quarter);
  for (int k = 0; k < 4; ++k) {
    r[k] = {quarters[0][k], quarters[2][k]};
    r[k + 4] = {quarters[1][k], quarters[3][k]};
  }
}

inline void store_where(Index* p, Mask8 m, Index value) {
  const __m256i even =
      _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castpd_ps(m.a), _mm256_castpd_ps(m.b), 0x88));
  const __m256i lanes = _mm256_permute4x64_epi64(even, 0xd8);
  __m256i* const at =
      reinterpret_cast<__m256i*>(p);  // a masked store takes longer on some machines
  _mm256_storeu_si256(at,
                      _mm256_blendv_epi8(_mm256_loadu_si256(at), _mm256_set1_epi32(value), lanes));
}

struct Floats {
  static constexpr int kLanes = 16;
  __m256 a, b;

  static Floats all(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static Floats load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static Floats load(const float* p, CostBits<float> c) {
    const __m256 keep = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(c.keep)));
    const __m256 flip = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(c.flip)));
    return {_mm256_xor_ps(_mm256_and_ps(_mm256_loadu_ps(p), keep), flip),
            _mm256_xor_ps(_mm256_and_ps(_mm256_loadu_ps(p + 8), keep), flip)};
  }
  // Rounded toward minus infinity.
  static Floats down(Doubles low, Doubles high) {
    return {_mm256_set_m128(down(low.b), down(low.a)), _mm256_set_m128(down(high.b), down(high.a))};
  }
  void store(float* p) const {
    _mm256_storeu_ps(p, a);
    _mm256_storeu_ps(p + 8, b);
  }

 private:
  // Nearest, then one step down where that came out above: float bits step like integers, away
  // from zero for a negative number, and below +0 lies the smallest negative one.
  static __m128 down(__m256d x) {
    const __m128 near = _mm256_cvtpd_ps(x);
    const __m256d above = _mm256_cmp_pd(_mm256_cvtps_pd(near), x, _CMP_GT_OQ);
    const __m256i even = _mm256_permutevar8x32_epi32(_mm256_castpd_si256(above),
                                                     _mm256_setr_epi32(0, 2, 4, 6, 0, 0, 0, 0));
    const __m128i where = _mm256_castsi256_si128(even);
    const __m128i raw = _mm_castps_si128(near);
    const __m128i negative = _mm_srai_epi32(raw, 31);
    const __m128i step = _mm_or_si128(_mm_xor_si128(negative, _mm_set1_epi32(-1)),
                                      _mm_srli_epi32(negative, 31));  // -1, or +1 if negative
    __m128i stepped = _mm_add_epi32(raw, step);
    const __m128i zero = _mm_cmpeq_epi32(raw, _mm_setzero_si128());
    stepped = _mm_blendv_epi8(stepped, _mm_set1_epi32(static_cast<int>(0x80000001u)), zero);
    return _mm_castsi128_ps(_mm_blendv_epi8(raw, stepped, where));
  }
};

inline Floats operator-(Floats l, Floats r) {
  return {_mm256_sub_ps(l.a, r.a), _mm256_sub_ps(l.b, r.b)};
}
inline Floats min(Floats l, Floats r) { return {_mm256_min_ps(l.a, r.a), _mm256_min_ps(l.b, r.b)}; }
inline Floats max(Floats l, Floats r) { return {_mm256_max_ps(l.a, r.a), _mm256_max_ps(l.b, r.b)}; }
inline unsigned bits_le(Floats l, Floats r) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(l.a, r.a, _CMP_LE_OQ)) |
                               _mm256_movemask_ps(_mm256_cmp_ps(l.b, r.b, _CMP_LE_OQ)) << 8);
}
inline int count_le(Floats l, Floats r) { return __builtin_popcount(bits_le(l, r)); }
inline float least(Floats v) {
  const __m256 eight = _mm256_min_ps(v.a, v.b);
  __m128 four = _mm_min_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_min_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_min_ss(four, _mm_shuffle_ps(four, four, 1)));
}
inline float greatest(Floats v) {
  const __m256 eight = _mm256_max_ps(v.a, v.b);
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_shuffle_ps(four, four, 1)));
}

// kHalves numbers in float32.
constexpr int kHalves = 8;
inline void widen_halves(const Half* p, float* out) {
  _mm256_storeu_ps(out, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

struct NanFlag {
  __m256 seen;
  NanFlag() : seen(_mm256_setzero_ps()) {}
  void see(Floats l, Floats r) {
    seen = _mm256_or_ps(seen, _mm256_or_ps(_mm256_cmp_ps(l.a, r.a, _CMP_UNORD_Q),
                                           _mm256_cmp_ps(l.b, r.b, _CMP_UNORD_Q)));
  }
  void see(Doubles l, Doubles r) {
    seen =
        _mm256_or_ps(seen, _mm256_castpd_ps(_mm256_or_pd(_mm256_cmp_pd(l.a, r.a, _CMP_UNORD_Q),
                                                         _mm256_cmp_pd(l.b, r.b, _CMP_UNORD_Q))));
  }
  bool any() const { return _mm256_movemask_ps(seen) != 0; }
};
