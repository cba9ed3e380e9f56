// A square of entries, of which rows become columns in registers.
#pragma once

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include <cstring>
#include <utility>

namespace bmatch {

// Of type T of 1, 2, 4 or 8 bytes; a row is 16 bytes.
template <typename T>
class Square {
 public:
  static constexpr int n = 16 / static_cast<int>(sizeof(T));

#if defined(__x86_64__)
  void set_row(int i, const void* entries) {
    rows_[i] = _mm_loadu_si128(static_cast<const __m128i*>(entries));
  }
  // Row i with the bits of `signs` turned.
  void write_row(int i, const void* signs, void* out) const {
    const __m128i turn = _mm_loadu_si128(static_cast<const __m128i*>(signs));
    _mm_storeu_si128(static_cast<__m128i*>(out), _mm_xor_si128(rows_[i], turn));
  }
  void write_row(int i, void* out) const { _mm_storeu_si128(static_cast<__m128i*>(out), rows_[i]); }
  // In each step rows of the first and of the second half are zipped, entry by entry.
  void transpose() {
    for (int step = 1; step < n; step *= 2) {
      __m128i zipped[n];
      for (int k = 0; k < n / 2; ++k) {
        const __m128i a = rows_[k], b = rows_[k + n / 2];
        if constexpr (sizeof(T) == 1) {
          zipped[2 * k] = _mm_unpacklo_epi8(a, b), zipped[2 * k + 1] = _mm_unpackhi_epi8(a, b);
        } else if constexpr (sizeof(T) == 2) {
          zipped[2 * k] = _mm_unpacklo_epi16(a, b), zipped[2 * k + 1] = _mm_unpackhi_epi16(a, b);
        } else if constexpr (sizeof(T) == 4) {
          zipped[2 * k] = _mm_unpacklo_epi32(a, b), zipped[2 * k + 1] = _mm_unpackhi_epi32(a, b);
        } else {
          zipped[2 * k] = _mm_unpacklo_epi64(a, b), zipped[2 * k + 1] = _mm_unpackhi_epi64(a, b);
        }
      }
      for (int k = 0; k < n; ++k) rows_[k] = zipped[k];
    }
  }

 private:
  __m128i rows_[n];
#else
  void set_row(int i, const void* entries) { std::memcpy(rows_[i], entries, sizeof rows_[i]); }
  void write_row(int i, const T* signs, void* out) const {
    T turned[n];
    for (int j = 0; j < n; ++j) turned[j] = rows_[i][j] ^ signs[j];
    std::memcpy(out, turned, sizeof turned);
  }
  void write_row(int i, void* out) const { std::memcpy(out, rows_[i], sizeof rows_[i]); }
  void transpose() {
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j < i; ++j) std::swap(rows_[i][j], rows_[j][i]);
    }
  }

 private:
  T rows_[n][n];
#endif
};

}  // namespace bmatch
