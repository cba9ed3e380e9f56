#include "take.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <utility>
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

// 16 bytes, a column of a block.
struct alignas(16) Chunk {
  unsigned char bytes[16];
};

// A square of kBlock<T> rows, whose rows become its columns: in each step rows of its first and of
// its second half are zipped, entry by entry.  All of it stays in registers.
template <typename T>
class Square {
 public:
  static constexpr int n = kBlock<T>;

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
    Square<T> square;
    for (int i = 0; i < n; ++i) square.set_row(i, rows[i] + j);
    square.transpose();
    for (int i = 0; i < n; ++i) square.write_row(i, room + j + i);
  }
  for (; j < cols; ++j) {
    T column[n];
    for (int i = 0; i < n; ++i) column[i] = rows[i][j];
    std::memcpy(room + j, column, sizeof(Chunk));
  }
  for (j = 0; j < squares; j += n) {
    Square<T> square;
    for (int k = 0; k < n; ++k) square.set_row(k, room + columns[j + k]);
    square.transpose();
    for (int i = 0; i < n; ++i) square.write_row(i, signs[i] + j, out[i] + j);
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
