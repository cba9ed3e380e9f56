#include "xxh3.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include <cstring>

namespace bmatch {
namespace {

constexpr int kStripe = 64, kStripes = 16;  // bytes, and how many a block has
constexpr int kSecretBytes = 192;

constexpr std::uint64_t kPrime1 = 0x9E3779B185EBCA87, kPrime2 = 0xC2B2AE3D27D4EB4F;
constexpr std::uint32_t kPrime32 = 0x9E3779B1;

alignas(16) constexpr unsigned char kSecret[kSecretBytes] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

std::uint64_t word(const unsigned char* at) {
  std::uint64_t read;
  std::memcpy(&read, at, sizeof read);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  read = __builtin_bswap64(read);
#endif
  return read;
}

#if defined(__x86_64__)

// Two words in each of four registers.
struct State {
  __m128i words[4];

  explicit State(const std::uint64_t* from) {
    for (int k = 0; k < 4; ++k)
      words[k] = _mm_load_si128(reinterpret_cast<const __m128i*>(from) + k);
  }
  void store(std::uint64_t* to) const {
    for (int k = 0; k < 4; ++k) _mm_store_si128(reinterpret_cast<__m128i*>(to) + k, words[k]);
  }
  static __m128i load(const unsigned char* from, int k) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from) + k);
  }

  void add(const unsigned char* stripe, const unsigned char* secret) {
    for (int k = 0; k < 4; ++k) {
      const __m128i read = load(stripe, k), key = _mm_xor_si128(read, load(secret, k));
      const __m128i product = _mm_mul_epu32(key, _mm_srli_epi64(key, 32));
      const __m128i other = _mm_shuffle_epi32(read, _MM_SHUFFLE(1, 0, 3, 2));
      words[k] = _mm_add_epi64(words[k], _mm_add_epi64(product, other));
    }
  }

  void scramble(const unsigned char* secret) {
    const __m128i prime = _mm_set1_epi32(static_cast<int>(kPrime32));
    for (int k = 0; k < 4; ++k) {
      const __m128i mixed =
          _mm_xor_si128(_mm_xor_si128(words[k], _mm_srli_epi64(words[k], 47)), load(secret, k));
      const __m128i high = _mm_mul_epu32(_mm_srli_epi64(mixed, 32), prime);
      words[k] = _mm_add_epi64(_mm_mul_epu32(mixed, prime), _mm_slli_epi64(high, 32));
    }
  }
};

#else

struct State {
  std::uint64_t words[8];

  explicit State(const std::uint64_t* from) { std::memcpy(words, from, sizeof words); }
  void store(std::uint64_t* to) const { std::memcpy(to, words, sizeof words); }

  void add(const unsigned char* stripe, const unsigned char* secret) {
    for (int k = 0; k < 8; ++k) {
      const std::uint64_t read = word(stripe + 8 * k), key = read ^ word(secret + 8 * k);
      words[k ^ 1] += read;
      words[k] += (key & 0xFFFFFFFF) * (key >> 32);
    }
  }

  void scramble(const unsigned char* secret) {
    for (int k = 0; k < 8; ++k)
      words[k] = (words[k] ^ (words[k] >> 47) ^ word(secret + 8 * k)) * kPrime32;
  }
};

#endif

std::uint64_t merged(const std::uint64_t* state, const unsigned char* secret, std::uint64_t start) {
  for (int k = 0; k < 8; k += 2) {
    const auto product = static_cast<unsigned __int128>(state[k] ^ word(secret + 8 * k)) *
                         (state[k + 1] ^ word(secret + 8 * k + 8));
    start += static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  }
  start = (start ^ (start >> 37)) * 0x165667919E3779F9;
  return start ^ (start >> 32);
}

void write_big_endian(std::uint64_t value, unsigned char* to) {
  for (int k = 0; k < 8; ++k) to[k] = static_cast<unsigned char>(value >> (56 - 8 * k));
}

}  // namespace

void Xxh3::add(const unsigned char* blocks, std::int64_t count) {
  State state(state_);
  for (std::int64_t block = 0; block < count; ++block, blocks += kBlock) {
    for (int k = 0; k < kStripes; ++k) state.add(blocks + k * kStripe, kSecret + 8 * k);
    state.scramble(kSecret + kSecretBytes - kStripe);
  }
  state.store(state_);
  length_ += static_cast<std::uint64_t>(count * kBlock);
}

void Xxh3::finish(const unsigned char* block, unsigned char* hash) {
  constexpr int kBeforeLast = 7, kAround = 11;  // bytes of the secret
  State state(state_);
  for (int k = 0; k < kStripes - 1; ++k) state.add(block + k * kStripe, kSecret + 8 * k);
  state.add(block + kBlock - kStripe, kSecret + kSecretBytes - kStripe - kBeforeLast);
  state.store(state_);
  length_ += kBlock;
  const unsigned char* const last = kSecret + kSecretBytes - kStripe - kAround;
  write_big_endian(merged(state_, last, ~(length_ * kPrime2)), hash);
  write_big_endian(merged(state_, kSecret + kAround, length_ * kPrime1), hash + 8);
}

}  // namespace bmatch
