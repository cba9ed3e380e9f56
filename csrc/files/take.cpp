#include "take.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

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

// So many rows of entries of type T are a block: a column of it is 16 bytes.
template <typename T>
constexpr int kBlock = 16 / static_cast<int>(sizeof(T));

// 16 bytes, entries of a row or of a column of a block.
struct alignas(16) Chunk {
  unsigned char bytes[16];
};

// The rows of a square of kBlock<T> rows become its columns: in each step rows of its first and of
// its second half are zipped, entry by entry.
template <typename T>
void transpose(Chunk* square) {
  constexpr int n = kBlock<T>;
#if defined(__x86_64__)
  for (int step = 1; step < n; step *= 2) {
    __m128i rows[n];
    for (int k = 0; k < n; ++k) {
      rows[k] = _mm_load_si128(reinterpret_cast<const __m128i*>(square + k));
    }
    for (int k = 0; k < n / 2; ++k) {
      const __m128i a = rows[k], b = rows[k + n / 2];
      __m128i low, high;
      if constexpr (sizeof(T) == 1) {
        low = _mm_unpacklo_epi8(a, b), high = _mm_unpackhi_epi8(a, b);
      } else if constexpr (sizeof(T) == 2) {
        low = _mm_unpacklo_epi16(a, b), high = _mm_unpackhi_epi16(a, b);
      } else if constexpr (sizeof(T) == 4) {
        low = _mm_unpacklo_epi32(a, b), high = _mm_unpackhi_epi32(a, b);
      } else {
        low = _mm_unpacklo_epi64(a, b), high = _mm_unpackhi_epi64(a, b);
      }
      _mm_store_si128(reinterpret_cast<__m128i*>(square + 2 * k), low);
      _mm_store_si128(reinterpret_cast<__m128i*>(square + 2 * k + 1), high);
    }
  }
#else
  T entries[n][n], turned[n][n];
  std::memcpy(entries, square, sizeof entries);
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) turned[j][i] = entries[i][j];
  }
  std::memcpy(square, turned, sizeof turned);
#endif
}

// Columns of rows from elsewhere in them, one row at a time.
template <typename T, typename Column>
void take_columns(const T* row, const Column* columns, const T* signs, std::int64_t cols, T* out) {
  for (std::int64_t j = 0; j < cols; ++j) out[j] = row[columns[j]] ^ signs[j];
}

// The same of a block of rows: its columns lie side by side in `room`, [cols], and whole ones are
// moved. Signs are turned in rows, once they are rows again.
template <typename T, typename Column>
void take_block(const T* const* rows, const Column* columns, const T* const* signs,
                std::int64_t cols, T* const* out, Chunk* room) {
  constexpr int n = kBlock<T>;
  const std::int64_t squares = cols / n * n;
  std::int64_t j = 0;
  for (; j < squares; j += n) {
    for (int i = 0; i < n; ++i) std::memcpy(room + j + i, rows[i] + j, sizeof(Chunk));
    transpose<T>(room + j);
  }
  for (; j < cols; ++j) {
    T column[n];
    for (int i = 0; i < n; ++i) column[i] = rows[i][j];
    std::memcpy(room + j, column, sizeof(Chunk));
  }
  for (j = 0; j < squares; j += n) {
    Chunk square[n];
    for (int k = 0; k < n; ++k) square[k] = room[columns[j + k]];
    transpose<T>(square);
    for (int i = 0; i < n; ++i) {
      T entries[n];
      std::memcpy(entries, square + i, sizeof entries);
      for (int k = 0; k < n; ++k) entries[k] ^= signs[i][j + k];
      std::memcpy(out[i] + j, entries, sizeof entries);
    }
  }
  for (; j < cols; ++j) {
    for (int i = 0; i < n; ++i) out[i][j] = rows[i][columns[j]] ^ signs[i][j];
  }
}

template <typename T, typename Column>
void take_rows(const Take& task, const std::vector<Column>& columns) {
  constexpr int n = kBlock<T>;
  const std::int64_t cols = task.cols;
  const T* const source = static_cast<const T*>(task.source);
  std::vector<T> signs(columns.size()), turned(columns.size());
  for (std::size_t j = 0; j < columns.size(); ++j) {
    signs[j] = task.turned_columns != nullptr && task.turned_columns[j] ? kSign<T> : T{0};
    turned[j] = signs[j] ^ kSign<T>;
  }
  std::vector<Chunk> room(task.rows < n ? 0 : columns.size());
  std::int64_t i = 0;
  for (; !room.empty() && i + n <= task.rows; i += n) {
    const T *rows[n], *turns[n];
    T* out[n];
    for (int k = 0; k < n; ++k) {
      rows[k] = source + task.starts[i + k];
      turns[k] = (task.turned != nullptr && task.turned[i + k] ? turned : signs).data();
      out[k] = static_cast<T*>(task.out) + (i + k) * cols;
    }
    take_block(rows, columns.data(), turns, cols, out, room.data());
  }
  for (; i < task.rows; ++i) {
    const T* const row = source + task.starts[i];
    T* const out = static_cast<T*>(task.out) + i * cols;
    const bool turn = task.turned != nullptr && task.turned[i];
    if (!columns.empty()) {
      take_columns(row, columns.data(), (turn ? turned : signs).data(), cols, out);
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
