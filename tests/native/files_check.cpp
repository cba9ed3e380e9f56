// The passes over files against plain loops: nothing is read or written beside the operands (run
// under sanitizers).
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <system_error>
#include <vector>

#include "files/look.h"
#include "files/take.h"
#include "files/xxh3.h"
#include "require.h"

using namespace bmatch;

namespace {

template <typename T>
void check_take(std::int64_t rows, std::int64_t cols, bool by_columns, bool signs) {
  const T sign = static_cast<T>(T{1} << (8 * sizeof(T) - 1));
  std::vector<T> source(static_cast<std::size_t>(rows * cols)), out(source.size());
  for (T& value : source) value = static_cast<T>(generator());
  const auto flags = [](std::int64_t count) {
    std::unique_ptr<bool[]> drawn(new bool[static_cast<std::size_t>(count)]);
    for (std::int64_t k = 0; k < count; ++k) drawn[static_cast<std::size_t>(k)] = generator() % 2;
    return drawn;
  };
  const auto turned = flags(rows), turned_columns = flags(cols);
  std::vector<std::int64_t> starts(static_cast<std::size_t>(rows));
  for (std::int64_t& start : starts) start = static_cast<std::int64_t>(generator() % rows) * cols;
  std::vector<std::int32_t> columns(static_cast<std::size_t>(cols));
  for (std::int32_t& column : columns) column = static_cast<std::int32_t>(generator() % cols);
  const Take task{source.data(),
                  starts.data(),
                  signs ? turned.get() : nullptr,
                  rows,
                  cols,
                  by_columns ? columns.data() : nullptr,
                  by_columns && signs ? turned_columns.get() : nullptr,
                  sizeof(T)};
  take(task, out.data());
  const auto bytes = static_cast<std::size_t>(rows * cols) * sizeof(T);
  for (const int threads : {1, 2, 5}) {
    std::vector<T> written(out.size());
    std::FILE* const file = std::tmpfile();
    take_to_file(task, fileno(file), 7, 100, threads);
    require(pread(fileno(file), written.data(), bytes, 7) == static_cast<ssize_t>(bytes), "size");
    require(written == out, "take_to_file");
    std::fclose(file);
  }
  T most = 0;
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < cols; ++j) {
      const auto at = static_cast<std::size_t>(j);
      const std::int64_t from =
          starts[static_cast<std::size_t>(i)] + (by_columns ? columns[at] : j);
      T expected = source[static_cast<std::size_t>(from)];
      if (signs && turned[static_cast<std::size_t>(i)]) expected ^= sign;
      if (signs && by_columns && turned_columns[at]) expected ^= sign;
      require(out[static_cast<std::size_t>(i * cols + j)] == expected, "take");
      most = std::max<T>(most, expected & static_cast<T>(~sign));
    }
  }
  require(largest_magnitude(out.data(), rows * cols, sizeof(T)) == most, "largest");
}

template <typename T>
void check_type() {
  for (const std::int64_t cols : {1, 31, 64, 200}) {
    for (const bool by_columns : {false, true}) {
      for (const bool signs : {false, true}) {
        check_take<T>(5, cols, by_columns, signs);
        check_take<T>(37, cols, by_columns, signs);  // blocks of rows, and some left over
      }
    }
  }
  check_take<T>(1, 70000, true, true);  // more columns than 16 bits number
}

// What cannot be written ends it for all threads, wherever it happens.
void check_errors() {
  const std::vector<std::uint16_t> source(4000);
  std::vector<std::int64_t> starts(400);
  for (std::size_t row = 0; row < starts.size(); ++row)
    starts[row] = static_cast<std::int64_t>(10 * row);
  const Take task{source.data(), starts.data(), nullptr, 400, 10, nullptr, nullptr, 2};
  std::FILE* const read_only = std::fopen("/dev/null", "r");
  for (const int threads : {1, 2, 5}) {
    bool thrown = false;
    try {
      take_to_file(task, fileno(read_only), 0, 100, threads);
    } catch (const std::system_error& error) {
      thrown = error.code().value() == EBADF;
    }
    require(thrown, "an error of the file");
  }
  std::fclose(read_only);
}

// However pieces are shared out, each is hashed as it is alone, and the largest entry is found.
template <typename T>
void check_look() {
  const std::int64_t pieces = 3;
  std::vector<unsigned char> bytes(static_cast<std::size_t>(pieces * kHashedPiece));
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(generator());
  std::vector<unsigned char> hashes(static_cast<std::size_t>(pieces * Xxh3::kBytes));
  auto again = hashes;
  const int size = static_cast<int>(sizeof(T));
  const std::uint64_t most = look_over(bytes.data(), pieces, size, 1, hashes.data());
  require(look_over(bytes.data(), pieces, size, 2, again.data()) == most, "the largest, by two");
  require(again == hashes, "hashes by two threads");
  std::uint64_t expected = 0;
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(T)) {
    T value;
    std::memcpy(&value, bytes.data() + at, sizeof(T));
    constexpr T kNoSign = static_cast<T>(static_cast<T>(~T{0}) >> 1);
    expected = std::max(expected, static_cast<std::uint64_t>(value & kNoSign));
  }
  require(most == expected, "the largest");
  require(look_over(bytes.data(), pieces, 0, 1, again.data()) == 0 && again == hashes, "hashes");
  for (std::int64_t k = 0; k < pieces; ++k) {
    Xxh3 alone;
    const unsigned char* const piece = bytes.data() + k * kHashedPiece;
    const std::int64_t blocks = kHashedPiece / Xxh3::kBlock;
    for (std::int64_t block = 0; block + 1 < blocks; ++block)
      alone.add(piece + block * Xxh3::kBlock, 1);
    alone.finish(piece + (blocks - 1) * Xxh3::kBlock, again.data());
    const auto at = static_cast<std::size_t>(k * Xxh3::kBytes);
    require(std::memcmp(again.data(), hashes.data() + at, Xxh3::kBytes) == 0, "a piece alone");
  }
}

}  // namespace

int main() {
  check_type<std::uint8_t>();
  check_type<std::uint16_t>();
  check_type<std::uint32_t>();
  check_type<std::uint64_t>();
  check_errors();
  check_look<std::uint8_t>();
  check_look<std::uint16_t>();
  check_look<std::uint32_t>();
  check_look<std::uint64_t>();
  std::printf("all checked\n");
}
