// Vectors of 16 floats and 8 doubles for any machine, as four 16-byte vectors of the compiler:
// what SSE2 and Neon hold in one register.
#pragma once

// How a pass over rows keeps the memory busy: that many side by side, nothing fetched (Zen 3).
constexpr int kSideBySide = kGroup;
constexpr bool kFetches = false;

using Float4 = float __attribute__((vector_size(16)));
using Int4 = std::int32_t __attribute__((vector_size(16)));
using Double2 = double __attribute__((vector_size(16)));
using Long2 = std::int64_t __attribute__((vector_size(16)));

template <typename V, typename P>
inline V load16(const P* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

struct Mask8 {
  Long2 m[4];
  static Mask8 of(std::uint8_t bits) {
    Mask8 r;
    for (int k = 0; k < 4; ++k) {
      const Long2 bit = {std::int64_t{1} << (2 * k), std::int64_t{2} << (2 * k)};
      r.m[k] = (Long2{bits, bits} & bit) == bit;
    }
    return r;
  }
  unsigned bits() const {
    unsigned r = 0;
    for (int k = 0; k < 4; ++k) r |= ((m[k][0] & 1) | (m[k][1] & 2)) << (2 * k);
    return r;
  }
  bool any() const {
    const Long2 o = (m[0] | m[1]) | (m[2] | m[3]);
    return (o[0] | o[1]) != 0;
  }
  Mask8 without(Mask8 b) const {
    Mask8 r;
    for (int k = 0; k < 4; ++k) r.m[k] = m[k] & ~b.m[k];
    return r;
  }
};

inline Mask8 operator&(Mask8 a, Mask8 b) {
  for (int k = 0; k < 4; ++k) a.m[k] &= b.m[k];
  return a;
}
inline Mask8 operator|(Mask8 a, Mask8 b) {
  for (int k = 0; k < 4; ++k) a.m[k] |= b.m[k];
  return a;
}

struct Doubles {
  static constexpr int kLanes = 8;
  Double2 x[4];

  static Doubles all(double a) {
    const Double2 v = {a, a};
    return {{v, v, v, v}};
  }
  static Doubles iota() { return {{Double2{0, 1}, Double2{2, 3}, Double2{4, 5}, Double2{6, 7}}}; }
  static Doubles load(const double* p) {
    Doubles r;
    for (int k = 0; k < 4; ++k) r.x[k] = load16<Double2>(p + 2 * k);
    return r;
  }
  static Doubles load(const double* p, CostBits<double> c) {
    const auto keep = static_cast<std::int64_t>(c.keep), flip = static_cast<std::int64_t>(c.flip);
    Doubles r;
    for (int k = 0; k < 4; ++k) {
      r.x[k] = (Double2)((load16<Long2>(p + 2 * k) & Long2{keep, keep}) ^ Long2{flip, flip});
    }
    return r;
  }
  static Doubles load(const float* p, CostBits<float> c) {
    Doubles r;
    for (int k = 0; k < 4; ++k) r.x[k] = Double2{c(p[2 * k]), c(p[2 * k + 1])};
    return r;
  }
  static Doubles gather(const double* p, const Index* at) {
    Doubles r;
    for (int k = 0; k < 4; ++k) r.x[k] = Double2{p[at[2 * k]], p[at[2 * k + 1]]};
    return r;
  }
  void store(double* p) const { std::memcpy(p, x, sizeof x); }
};

inline Doubles operator+(Doubles a, Doubles b) {
  for (int k = 0; k < 4; ++k) a.x[k] += b.x[k];
  return a;
}
inline Doubles operator-(Doubles a, Doubles b) {
  for (int k = 0; k < 4; ++k) a.x[k] -= b.x[k];
  return a;
}
inline Doubles min(Doubles a, Doubles b) {
  for (int k = 0; k < 4; ++k) a.x[k] = a.x[k] < b.x[k] ? a.x[k] : b.x[k];
  return a;
}
inline Doubles max(Doubles a, Doubles b) {
  for (int k = 0; k < 4; ++k) a.x[k] = a.x[k] > b.x[k] ? a.x[k] : b.x[k];
  return a;
}
inline Mask8 operator<(Doubles a, Doubles b) {
  Mask8 r;
  for (int k = 0; k < 4; ++k) r.m[k] = a.x[k] < b.x[k];
  return r;
}
inline Mask8 operator==(Doubles a, Doubles b) {
  Mask8 r;
  for (int k = 0; k < 4; ++k) r.m[k] = a.x[k] == b.x[k];
  return r;
}
inline Doubles select(Mask8 m, Doubles yes, Doubles no) {
  for (int k = 0; k < 4; ++k) no.x[k] = m.m[k] ? yes.x[k] : no.x[k];
  return no;
}
inline double least(Doubles a) {
  double r = a.x[0][0];
  for (int k = 0; k < 4; ++k) {
    r = a.x[k][0] < r ? a.x[k][0] : r;
    r = a.x[k][1] < r ? a.x[k][1] : r;
  }
  return r;
}
// What products of factors take; see factors_inl.h for the tile.
constexpr int kTileRows = 2, kTileVectors = 1;
inline Doubles operator*(Doubles a, Doubles b) {
  for (int k = 0; k < 4; ++k) a.x[k] *= b.x[k];
  return a;
}
// For products that are exact, of which two steps are one.
inline Doubles fused(Doubles a, Doubles b, Doubles sum) { return a * b + sum; }
inline Doubles root(Doubles a) {
  for (int k = 0; k < 4; ++k) a.x[k] = Double2{std::sqrt(a.x[k][0]), std::sqrt(a.x[k][1])};
  return a;
}
inline Doubles magnitude(Doubles a) {
  for (int k = 0; k < 4; ++k) a.x[k] = Double2{std::fabs(a.x[k][0]), std::fabs(a.x[k][1])};
  return a;
}
inline Doubles wide(const double* p) { return Doubles::load(p); }
inline Doubles wide(const float* p) {
  Doubles r;
  for (int k = 0; k < 4; ++k) r.x[k] = Double2{p[2 * k], p[2 * k + 1]};
  return r;
}

// The two smallest numbers of both vectors together, a <= b lane by lane.
inline TwoLeast least_two(Doubles a, Doubles b) {
  double first = a.x[0][0], second = b.x[0][0];
  for (int k = 1; k < 8; ++k) {
    const double x = a.x[k / 2][k % 2], y = b.x[k / 2][k % 2];
    second = x < first ? (y < first ? y : first) : (x < second ? x : second);
    first = x < first ? x : first;
  }
  return {first, second};
}

// Eight rows become eight columns.
inline void transpose(Doubles (&r)[8]) {
  double lanes[8][8];
  for (int k = 0; k < 8; ++k) r[k].store(lanes[k]);
  for (int k = 0; k < 8; ++k) {
    for (int j = 0; j < 4; ++j) r[k].x[j] = Double2{lanes[2 * j][k], lanes[2 * j + 1][k]};
  }
}

inline void store_where(Index* p, Mask8 m, Index value) {
  if (!m.any()) return;
  for (int k = 0; k < 8; ++k) p[k] = m.m[k / 2][k % 2] ? value : p[k];
}

struct Floats {
  static constexpr int kLanes = 16;
  Float4 x[4];

  static Floats all(float a) {
    const Float4 v = {a, a, a, a};
    return {{v, v, v, v}};
  }
  static Floats load(const float* p) {
    Floats r;
    for (int k = 0; k < 4; ++k) r.x[k] = load16<Float4>(p + 4 * k);
    return r;
  }
  static Floats load(const float* p, CostBits<float> c) {
    const auto keep = static_cast<std::int32_t>(c.keep), flip = static_cast<std::int32_t>(c.flip);
    const Int4 keeps = {keep, keep, keep, keep}, flips = {flip, flip, flip, flip};
    Floats r;
    for (int k = 0; k < 4; ++k) r.x[k] = (Float4)((load16<Int4>(p + 4 * k) & keeps) ^ flips);
    return r;
  }
  // Rounded toward minus infinity.
  static Floats down(Doubles low, Doubles high) {
    Floats r;
    for (int k = 0; k < 16; ++k) {
      r.x[k / 4][k % 4] = down(k < 8 ? low.x[k / 2][k % 2] : high.x[k / 2 - 4][k % 2]);
    }
    return r;
  }
  void store(float* p) const { std::memcpy(p, x, sizeof x); }

 private:
  static float down(double x) {
    const float near = static_cast<float>(x);
    return static_cast<double>(near) > x ? next_below(near) : near;
  }
};

inline Floats operator-(Floats a, Floats b) {
  for (int k = 0; k < 4; ++k) a.x[k] -= b.x[k];
  return a;
}
inline Floats min(Floats a, Floats b) {
  for (int k = 0; k < 4; ++k) a.x[k] = a.x[k] < b.x[k] ? a.x[k] : b.x[k];
  return a;
}
inline Floats max(Floats a, Floats b) {
  for (int k = 0; k < 4; ++k) a.x[k] = a.x[k] > b.x[k] ? a.x[k] : b.x[k];
  return a;
}
inline unsigned bits_le(Floats a, Floats b) {
  Int4 le[4];
  for (int k = 0; k < 4; ++k) le[k] = a.x[k] <= b.x[k];
  const Long2 any = (Long2)((le[0] | le[1]) | (le[2] | le[3]));
  if ((any[0] | any[1]) == 0) return 0;
  unsigned r = 0;
  for (int k = 0; k < 16; ++k) r |= static_cast<unsigned>(le[k / 4][k % 4] & 1) << k;
  return r;
}
inline int count_le(Floats a, Floats b) {
  Int4 sum = {0, 0, 0, 0};
  for (int k = 0; k < 4; ++k) sum -= a.x[k] <= b.x[k];
  return sum[0] + sum[1] + sum[2] + sum[3];
}
inline float least(Floats a) {
  float r = a.x[0][0];
  for (int k = 0; k < 16; ++k) r = a.x[k / 4][k % 4] < r ? a.x[k / 4][k % 4] : r;
  return r;
}
inline float greatest(Floats a) {
  float r = a.x[0][0];
  for (int k = 0; k < 16; ++k) r = a.x[k / 4][k % 4] > r ? a.x[k / 4][k % 4] : r;
  return r;
}

// kHalves numbers in float32.
constexpr int kHalves = 1;
inline void widen_halves(const Half* p, float* out) { *out = widened(*p); }

struct NanFlag {
  bool seen = false;
  void see(Floats a, Floats b) {
    Int4 o = {0, 0, 0, 0};
    for (int k = 0; k < 4; ++k) o |= (a.x[k] != a.x[k]) | (b.x[k] != b.x[k]);
    const Long2 any = (Long2)o;
    seen |= (any[0] | any[1]) != 0;
  }
  void see(Doubles a, Doubles b) {
    Long2 o = {0, 0};
    for (int k = 0; k < 4; ++k) o |= (a.x[k] != a.x[k]) | (b.x[k] != b.x[k]);
    seen |= (o[0] | o[1]) != 0;
  }
  bool any() const { return seen; }
};
