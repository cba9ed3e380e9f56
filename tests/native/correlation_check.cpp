// The passes of moments against plain loops in double: by any number of threads the same bits, and
// nothing is read or written beside the operands, with every instruction set of the machine (run
// under sanitizers).
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "correlation/column_sums.h"
#include "correlation/fold.h"
#include "correlation/products.h"
#include "instruction_set.h"
#include "threads.h"
#include "require.h"

using namespace bmatch;

namespace {

template <typename T>
T draw() {
  const float value = std::normal_distribution<float>()(generator);
  if constexpr (std::is_same_v<T, Bfloat16>) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return {static_cast<std::uint16_t>(bits >> 16)};
  } else {
    return static_cast<T>(value);
  }
}

// Rows that do not follow one another at once; no memory beyond the last.
template <typename T>
struct Block {
  std::int64_t rows, cols, stride;
  std::vector<T> memory;

  Block(std::int64_t r, std::int64_t c)
      : rows(r), cols(c), stride(c + 3), memory(static_cast<std::size_t>((r - 1) * stride + c)) {
    for (T& value : memory) value = draw<T>();
  }
  double at(std::int64_t i, std::int64_t j) const {
    return static_cast<double>(widened(memory[static_cast<std::size_t>(i * stride + j)]));
  }
};

template <typename T>
void check_products(std::int64_t tokens, std::int64_t d1, std::int64_t d2) {
  if (!multiplies<T>()) return;
  const Block<T> left(tokens, d1), right(tokens, d2);
  std::vector<float> first;
  for (const int threads : {1, 3}) {
    ThreadTeam team(threads);
    std::vector<float> products(static_cast<std::size_t>(d1 * d2), NAN);
    multiply(Products<T>{left.memory.data(), right.memory.data(), tokens, d1, d2, left.stride,
                         right.stride, products.data()},
             team);
    if (threads == 1) first = products;
    require(std::memcmp(first.data(), products.data(), 4 * first.size()) == 0, "same products");
  }
  for (std::int64_t i = 0; i < d1; ++i) {
    for (std::int64_t j = 0; j < d2; ++j) {
      double sum = 0, size = 0;
      for (std::int64_t t = 0; t < tokens; ++t) {
        const double product = left.at(t, i) * right.at(t, j);
        sum += product, size += std::abs(product);
      }
      require(std::abs(first[static_cast<std::size_t>(i * d2 + j)] - sum) <= 1e-6 * size,
              "products");
    }
  }
}

template <typename T>
void check_column_sums(std::int64_t rows, std::int64_t cols) {
  const Block<T> values(rows, cols);
  std::vector<typename ColumnSums<T>::Sum> shift(static_cast<std::size_t>(cols), 0.25);
  for (const bool shifted : {false, true}) {
    std::vector<double> first;
    for (const int threads : {1, 3}) {
      ThreadTeam team(threads);
      std::vector<double> sums(static_cast<std::size_t>(2 * cols), NAN);
      column_sums(ColumnSums<T>{values.memory.data(), rows, cols, values.stride,
                                shifted ? shift.data() : nullptr, sums.data(), sums.data() + cols},
                  team);
      if (threads == 1) first = sums;
      require(std::memcmp(first.data(), sums.data(), 8 * sums.size()) == 0, "same sums");
    }
    for (std::int64_t j = 0; j < cols; ++j) {
      double sum = 0, square = 0, size = 0;
      for (std::int64_t i = 0; i < rows; ++i) {
        const double value = values.at(i, j) - (shifted ? 0.25 : 0.0);
        sum += value, size += std::abs(value), square += value * value;
      }
      const auto k = static_cast<std::size_t>(j);
      require(std::abs(first[k] - sum) <= 1e-6 * size, "sums");
      require(std::abs(first[k + static_cast<std::size_t>(cols)] - square) <= 1e-6 * square,
              "squares");
    }
  }
}

template <typename T>
void check_fold(std::int64_t d1, std::int64_t d2) {
  std::vector<T> products(static_cast<std::size_t>(d1 * d2));
  std::vector<double> left(static_cast<std::size_t>(2 * d1)),
      right(static_cast<std::size_t>(2 * d2));
  for (T& value : products) value = draw<T>();
  for (double& value : left) value = draw<double>();
  for (double& value : right) value = draw<double>();
  std::vector<double> comoment(products.size(), 1.0);
  ThreadTeam team(3);
  fold(Fold<T>{comoment.data(), products.data(), d1, d2, left.data(), right.data()}, team);
  for (std::int64_t i = 0; i < d1; ++i) {
    for (std::int64_t j = 0; j < d2; ++j) {
      const auto k = static_cast<std::size_t>(i * d2 + j);
      const auto a = static_cast<std::size_t>(i), b = static_cast<std::size_t>(d1 + i);
      const auto c = static_cast<std::size_t>(j), d = static_cast<std::size_t>(d2 + j);
      const double expected = 1.0 + products[k] + left[a] * right[c] + left[b] * right[d];
      require(std::abs(comoment[k] - expected) < 1e-12, "fold");
    }
  }
}

template <typename T>
void check_type() {
  // Less than a panel, whole panels, one column more; less than a word, odd, more than two blocks.
  for (const std::int64_t tokens : {1, 2, 33, 1301}) {
    for (const std::int64_t d1 : {1, 12, 37}) {
      for (const std::int64_t d2 : {1, 32, 81}) check_products<T>(tokens, d1, d2);
    }
  }
  check_products<T>(40, 230, 300);  // more than a piece
}

void check_all() {
  check_type<float>();
  check_type<Bfloat16>();
  for (const std::int64_t rows : {1, 63, 2100}) {
    for (const std::int64_t cols : {1, 5, 1100}) {
      check_column_sums<float>(rows, cols);
      check_column_sums<double>(rows, cols);
      check_column_sums<Bfloat16>(rows, cols);
    }
  }
  check_fold<float>(17, 33);
  check_fold<double>(17, 33);
}

}  // namespace

int main() {
  for (const InstructionSet set : instruction_sets()) {
    use(name_of(set));
    check_all();
  }
  std::printf("all checked\n");
}
