// What products.cpp is made of for one type of operand and one instruction set.
#pragma once

#include <cstdint>

namespace bmatch {

constexpr int kTall = 12, kWide = 32;  // columns in a panel of the left and of the right operand
constexpr int kWords = 256;            // in a column of a panel: a right panel takes 32 KB of cache

// A word is what one lane multiplies at once.
struct ProductKernel {
  int tokens;  // in a word

  // Writes some words of panels that lie side by side, each [words][columns of a panel]; zeros
  // beside the last column and after the last token.
  struct Rows {
    const void* values;   // first token
    std::int64_t stride;  // numbers from token to token
    std::int64_t tokens, cols;
  };
  void (*pack_tall)(const Rows& rows, std::int64_t words, std::uint32_t* panels);
  void (*pack_wide)(const Rows& rows, std::int64_t words, std::uint32_t* panels);

  // products += tall^T wide, rows x cols of it; = instead of += for the first words.
  struct Tile {
    float* products;
    std::int64_t stride;
    int rows, cols;
    bool first;
  };
  void (*multiply)(const std::uint32_t* tall, const std::uint32_t* wide, int words,
                   const Tile& tile);
};

#if defined(__x86_64__)
extern const ProductKernel kFloatProduct, kBfloat16Product;  // AVX-512
#endif

}  // namespace bmatch
