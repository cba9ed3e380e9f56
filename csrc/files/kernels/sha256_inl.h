// SHA-256 of several streams at once, one in each lane of a vector of so many.  Included into an
// unnamed namespace, with what the including file is compiled for.
#pragma once

template <int kLanes>
struct Sha256 {
  typedef std::uint32_t Words __attribute__((vector_size(4 * kLanes)));

  static Words right(Words x, int n) { return (x >> n) | (x << (32 - n)); }

  // Word k of the next block of each stream.
  static void load(const unsigned char* const* data, std::int64_t at, Words* words) {
    alignas(64) std::uint32_t rows[16][kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      std::uint32_t block[16];
      std::memcpy(block, data[lane] + at, 64);
      for (int k = 0; k < 16; ++k) rows[k][lane] = __builtin_bswap32(block[k]);
    }
    std::memcpy(words, rows, sizeof rows);
  }

  static void blocks(std::uint32_t* states, const unsigned char* const* data, std::int64_t count) {
    Words state[8];
    std::memcpy(state, states, sizeof state);
    for (std::int64_t block = 0; block < count; ++block) {
      Words w[16];
      load(data, 64 * block, w);
      Words a = state[0], b = state[1], c = state[2], d = state[3];
      Words e = state[4], f = state[5], g = state[6], h = state[7];
      for (int start = 0; start < 64; start += 16) {
#pragma GCC unroll 16
        for (int k = 0; k < 16; ++k) {
          if (start != 0) {
            const Words x = w[(k + 1) % 16], y = w[(k + 14) % 16];
            w[k] += (right(x, 7) ^ right(x, 18) ^ (x >> 3)) + w[(k + 9) % 16] +
                    (right(y, 17) ^ right(y, 19) ^ (y >> 10));
          }
          const Words t1 = h + (right(e, 6) ^ right(e, 11) ^ right(e, 25)) + ((e & f) ^ (~e & g)) +
                           kSha256[start + k] + w[k];
          const Words t2 =
              (right(a, 2) ^ right(a, 13) ^ right(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
          h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
        }
      }
      state[0] += a, state[1] += b, state[2] += c, state[3] += d;
      state[4] += e, state[5] += f, state[6] += g, state[7] += h;
    }
    std::memcpy(states, state, sizeof state);
  }
};
