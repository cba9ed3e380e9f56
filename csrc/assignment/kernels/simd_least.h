// What AVX2 and AVX-512 come down to.  Included inside the files that turn them on.
#pragma once

// The two smallest of eight numbers, low[k] <= high[k].
inline TwoLeast least_two(__m256d low, __m256d high) {
  const __m128d low_two = _mm_min_pd(_mm256_castpd256_pd128(low), _mm256_extractf128_pd(low, 1));
  const __m128d high_two =
      _mm_min_pd(_mm_max_pd(_mm256_castpd256_pd128(low), _mm256_extractf128_pd(low, 1)),
                 _mm_min_pd(_mm256_castpd256_pd128(high), _mm256_extractf128_pd(high, 1)));
  const __m128d other = _mm_unpackhi_pd(low_two, low_two);
  const __m128d next = _mm_min_sd(high_two, _mm_unpackhi_pd(high_two, high_two));
  return {_mm_cvtsd_f64(_mm_min_sd(low_two, other)),
          _mm_cvtsd_f64(_mm_min_sd(_mm_max_sd(low_two, other), next))};
}
