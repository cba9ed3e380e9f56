// SHA-256 of two streams with the processor's own instructions for it, compiled for them by pragma:
// all other headers are read before, so that no function shared with other files is compiled for
// this machine alone.
//
// Every round waits for the one before it, four cycles or more, and the unit could begin another
// after two: of one stream alone it is idle half of the time.
#if defined(__x86_64__)

#include <immintrin.h>

#include <cstdint>

#include "sha256_kernels.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("sha,sse4.1,ssse3"))), apply_to = function)
#else
#pragma GCC target("sha,sse4.1,ssse3")
#endif

namespace bmatch {
namespace {

constexpr int kStreams = 2;

// Words a to h of a stream as the instructions take them.
struct State {
  __m128i abef, cdgh;
};

State state_of(const std::uint32_t* states, int stream) {
  const auto word = [&](int k) { return static_cast<int>(states[kStreams * k + stream]); };
  return {_mm_set_epi32(word(0), word(1), word(4), word(5)),
          _mm_set_epi32(word(2), word(3), word(6), word(7))};
}

void store(const State& state, int stream, std::uint32_t* states) {
  std::uint32_t abef[4], cdgh[4];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(abef), state.abef);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(cdgh), state.cdgh);
  const std::uint32_t words[8] = {abef[3], abef[2], cdgh[3], cdgh[2],
                                  abef[1], abef[0], cdgh[1], cdgh[0]};
  for (int k = 0; k < 8; ++k) states[kStreams * k + stream] = words[k];
}

// Rounds 4 i to 4 i + 3, and the words that later rounds take in.
template <int i>
void rounds(State& state, __m128i* words) {
  constexpr int now = i % 4, before = (i + 3) % 4, next = (i + 1) % 4;
  const __m128i constants = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kSha256 + 4 * i));
  __m128i added = _mm_add_epi32(words[now], constants);
  state.cdgh = _mm_sha256rnds2_epu32(state.cdgh, state.abef, added);
  if constexpr (i >= 3 && i < 15) {
    const __m128i shifted = _mm_alignr_epi8(words[now], words[before], 4);
    words[next] = _mm_sha256msg2_epu32(_mm_add_epi32(words[next], shifted), words[now]);
  }
  added = _mm_shuffle_epi32(added, 0x0E);
  state.abef = _mm_sha256rnds2_epu32(state.abef, state.cdgh, added);
  if constexpr (i >= 1 && i < 13) words[before] = _mm_sha256msg1_epu32(words[before], words[now]);
}

// Of both streams in turns.
template <int i = 0>
void all_rounds(State* states, __m128i (*words)[4]) {
  if constexpr (i < 16) {
    for (int stream = 0; stream < kStreams; ++stream) rounds<i>(states[stream], words[stream]);
    all_rounds<i + 1>(states, words);
  }
}

void blocks(std::uint32_t* states, const unsigned char* const* data, std::int64_t count) {
  const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  State now[kStreams] = {state_of(states, 0), state_of(states, 1)};
  for (std::int64_t block = 0; block < count; ++block) {
    State before[kStreams];
    __m128i words[kStreams][4];
    for (int stream = 0; stream < kStreams; ++stream) {
      before[stream] = now[stream];
      const auto* const from = reinterpret_cast<const __m128i*>(data[stream] + 64 * block);
      for (int k = 0; k < 4; ++k)
        words[stream][k] = _mm_shuffle_epi8(_mm_loadu_si128(from + k), big_endian);
    }
    all_rounds(now, words);
    for (int stream = 0; stream < kStreams; ++stream) {
      now[stream].abef = _mm_add_epi32(now[stream].abef, before[stream].abef);
      now[stream].cdgh = _mm_add_epi32(now[stream].cdgh, before[stream].cdgh);
    }
  }
  for (int stream = 0; stream < kStreams; ++stream) store(now[stream], stream, states);
}

}  // namespace

const Sha256Kernel kShaSha256 = {kStreams, &blocks};

}  // namespace bmatch

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
