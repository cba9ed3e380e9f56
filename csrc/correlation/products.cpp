#include "products.h"

#include <algorithm>
#include <cstddef>
#include <new>
#include <stdexcept>

#include "kernels/correlation_kernels.h"

namespace bmatch {
namespace {

std::int64_t pieces(std::int64_t whole, std::int64_t part) { return (whole + part - 1) / part; }

// Panels of a piece of the answer: 192 x 256 numbers, whose operands a core's second cache holds.
constexpr std::int64_t kTallPanels = 16, kWidePanels = 8;
constexpr std::int64_t kSlice = 16;      // words packed at once
constexpr std::int64_t kPiecesEach = 4;  // for every thread, if smaller pieces make as many

// Memory for packed panels, aligned to cache lines.
struct Panels {
  std::uint32_t* words;

  explicit Panels(std::int64_t count)
      : words(static_cast<std::uint32_t*>(::operator new(
            static_cast<std::size_t>(count) * sizeof(std::uint32_t), std::align_val_t{64}))) {}
  ~Panels() { ::operator delete(words, std::align_val_t{64}); }
  Panels(const Panels&) = delete;
  Panels& operator=(const Panels&) = delete;
};

template <typename T>
void multiply_blocks(const Products<T>& task, const ProductKernel& kernel, Threads& threads) {
  const std::int64_t tall = pieces(task.d1, kTall), wide = pieces(task.d2, kWide);
  std::int64_t tall_panels = kTallPanels, wide_panels = kWidePanels, down, across;
  for (;; tall_panels /= 2, wide_panels /= 2) {
    down = pieces(tall, tall_panels), across = pieces(wide, wide_panels);
    if (wide_panels == 1 || down * across >= kPiecesEach * threads.threads()) break;
  }

  // While one block of tokens is multiplied the next is packed.
  const std::int64_t all = pieces(task.tokens, kernel.tokens);  // words
  const std::int64_t longest = std::min<std::int64_t>(kWords, all), blocks = pieces(all, longest);
  const std::int64_t left_words = tall * kTall * longest, right_words = wide * kWide * longest;
  const Panels packed(std::min<std::int64_t>(2, blocks) * (left_words + right_words));
  const auto words = [&](std::int64_t block) { return std::min(longest, all - block * longest); };
  const auto left = [&](std::int64_t block) {
    return packed.words + block % 2 * (left_words + right_words);
  };
  const auto right = [&](std::int64_t block) { return left(block) + left_words; };

  const auto pack = [&](std::int64_t block, std::int64_t slice) {  // in the order of memory
    const std::int64_t word = slice / 2 * kSlice;
    const std::int64_t token = (block * longest + word) * kernel.tokens;
    const std::int64_t tokens = std::min(kSlice, words(block) - word) * kernel.tokens;
    const std::int64_t count = std::min(tokens, task.tokens - token);
    if (slice % 2 == 0) {
      const T* const at = task.left + token * task.left_stride;
      kernel.pack_tall({at, task.left_stride, count, task.d1}, words(block),
                       left(block) + word * kTall);
    } else {
      const T* const at = task.right + token * task.right_stride;
      kernel.pack_wide({at, task.right_stride, count, task.d2}, words(block),
                       right(block) + word * kWide);
    }
  };
  const auto multiply = [&](std::int64_t block, std::int64_t piece) {
    const std::int64_t i0 = piece % down * tall_panels, j0 = piece / down * wide_panels;
    for (std::int64_t j = j0; j < std::min(wide, j0 + wide_panels); ++j) {
      for (std::int64_t i = i0; i < std::min(tall, i0 + tall_panels); ++i) {
        float* const out = task.products + i * kTall * task.d2 + j * kWide;
        const auto rows = static_cast<int>(std::min<std::int64_t>(kTall, task.d1 - i * kTall));
        const auto cols = static_cast<int>(std::min<std::int64_t>(kWide, task.d2 - j * kWide));
        kernel.multiply(left(block) + i * kTall * words(block),
                        right(block) + j * kWide * words(block), static_cast<int>(words(block)),
                        {out, task.d2, rows, cols, block == 0});
      }
    }
  };
  for (std::int64_t block = -1; block < blocks; ++block) {
    const std::int64_t products = block < 0 ? 0 : down * across;
    const std::int64_t slices = block + 1 < blocks ? 2 * pieces(words(block + 1), kSlice) : 0;
    share(threads, products + slices, [&](std::int64_t k) {
      if (k < products)
        multiply(block, k);
      else
        pack(block + 1, k - products);
    });
  }
}

}  // namespace

std::int64_t packed_bytes(std::int64_t tokens, std::int64_t d1, std::int64_t d2) {
  const std::int64_t cols = pieces(d1, kTall) * kTall + pieces(d2, kWide) * kWide;
  return std::min<std::int64_t>(2 * kWords, tokens) * cols * 4;
}

template <typename T>
bool multiplies() {
  return correlation_kernels().product<T>() != nullptr;
}

template <typename T>
void multiply(const Products<T>& task, Threads& threads) {
  const ProductKernel* const kernel = correlation_kernels().product<T>();
  if (kernel == nullptr) {
    throw std::logic_error("the instruction set in use has no kernel for these products");
  }
  multiply_blocks(task, *kernel, threads);
}

template bool multiplies<float>();
template bool multiplies<Bfloat16>();
template void multiply(const Products<float>& task, Threads& threads);
template void multiply(const Products<Bfloat16>& task, Threads& threads);

}  // namespace bmatch
