#include "take.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <vector>

namespace bmatch {
namespace {

template <typename T>
constexpr T kSign = static_cast<T>(T{1} << (std::numeric_limits<T>::digits - 1));

// Calls f with a number of so many bytes.
template <typename F>
auto with_size(int itemsize, F f) {
  switch (itemsize) {
    case 1:
      return f(std::uint8_t{});
    case 2:
      return f(std::uint16_t{});
    case 4:
      return f(std::uint32_t{});
    case 8:
      return f(std::uint64_t{});
    default:
      throw std::invalid_argument("entries of 1, 2, 4 or 8 bytes are taken");
  }
}

// Entries of a row from elsewhere in it. The row after it is fetched meanwhile, in order: entries
// are asked for in none, which no machine foresees.
template <typename T, typename Column>
void take_columns(const T* row, const T* next, const Column* columns, const T* signs,
                  std::int64_t cols, T* out) {
  constexpr std::int64_t kLine = 64 / sizeof(T);
  constexpr int kWord = 8 / sizeof(T);  // entries that are written at once
  std::int64_t j = 0;
  for (; j + kLine <= cols; j += kLine) {
    __builtin_prefetch(next + j);
    for (std::int64_t k = j; k < j + kLine; k += kWord) {
      T word[kWord];
      for (int n = 0; n < kWord; ++n) word[n] = row[columns[k + n]] ^ signs[k + n];
      std::memcpy(out + k, word, sizeof word);
    }
  }
  for (; j < cols; ++j) out[j] = row[columns[j]] ^ signs[j];
}

template <typename T, typename Column>
void take_rows(const Take& task, const std::vector<Column>& columns) {
  const std::int64_t cols = task.cols;
  const T* const source = static_cast<const T*>(task.source);
  std::vector<T> signs(columns.size()), turned(columns.size());
  for (std::size_t j = 0; j < columns.size(); ++j) {
    signs[j] = task.turned_columns != nullptr && task.turned_columns[j] ? kSign<T> : T{0};
    turned[j] = signs[j] ^ kSign<T>;
  }
  for (std::int64_t i = 0; i < task.rows; ++i) {
    const T* const row = source + task.starts[i];
    T* const out = static_cast<T*>(task.out) + i * cols;
    const bool turn = task.turned != nullptr && task.turned[i];
    if (!columns.empty()) {
      const T* const next = source + task.starts[std::min(i + 1, task.rows - 1)];
      take_columns(row, next, columns.data(), (turn ? turned : signs).data(), cols, out);
    } else if (turn) {
      for (std::int64_t j = 0; j < cols; ++j) out[j] = row[j] ^ kSign<T>;
    } else {
      std::memcpy(out, row, static_cast<std::size_t>(cols) * sizeof(T));
    }
  }
}

// Columns as numbers of 16 bits, where there are so few: they stay in the nearest cache.
template <typename T>
void take_entries(const Take& task) {
  const std::int32_t *const first = task.columns, *const last = first + task.cols;
  if (first == nullptr) {
    take_rows<T>(task, std::vector<std::uint16_t>{});
  } else if (std::all_of(first, last, [](std::int32_t column) { return column < 1 << 16; })) {
    take_rows<T>(task, std::vector<std::uint16_t>(first, last));
  } else {
    take_rows<T>(task, std::vector<std::int32_t>(first, last));
  }
}

}  // namespace

void take(const Take& task) {
  with_size(task.itemsize, [&](auto entry) { take_entries<decltype(entry)>(task); });
}

std::uint64_t largest_magnitude(const void* entries, std::int64_t count, int itemsize) {
  return with_size(itemsize, [&](auto entry) -> std::uint64_t {
    using T = decltype(entry);
    using Signed = std::make_signed_t<T>;  // without its sign bit a number is none below zero
    const T* const values = static_cast<const T*>(entries);
    Signed most = 0;
    for (std::int64_t k = 0; k < count; ++k) {
      most = std::max(most, static_cast<Signed>(values[k] & ~kSign<T>));
    }
    return static_cast<std::uint64_t>(most);
  });
}

}  // namespace bmatch
