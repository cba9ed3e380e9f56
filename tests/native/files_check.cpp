// The passes over files against plain loops: nothing is read or written beside the operands, with
// every instruction set of the machine (run under sanitizers).
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "files/sha256.h"
#include "files/take.h"
#include "instruction_set.h"
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
  for (const int threads : {1, 3}) {
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

// The lanes of one call are those of calls with the same stream in every lane.
void check_sha256() {
  const int lanes = sha256_lanes();
  if (lanes == 1) return;
  const auto size = static_cast<std::size_t>(8 * lanes);
  std::vector<std::vector<unsigned char>> streams(static_cast<std::size_t>(lanes));
  std::vector<const unsigned char*> data;
  for (auto& stream : streams) {
    stream.resize(3 * 64);
    for (unsigned char& byte : stream) byte = static_cast<unsigned char>(generator());
    data.push_back(stream.data());
  }
  std::vector<std::uint32_t> states(size, 7), same;
  sha256_blocks(lanes, states.data(), data.data(), 3);
  for (int lane = 0; lane < lanes; ++lane) {
    const std::vector<const unsigned char*> one(data.size(), data[static_cast<std::size_t>(lane)]);
    same.assign(size, 7);
    sha256_blocks(lanes, same.data(), one.data(), 2);
    std::vector<const unsigned char*> rest(data.size(), one[0] + 128);
    sha256_blocks(lanes, same.data(), rest.data(), 1);
    for (int word = 0; word < 8; ++word) {
      const auto k = static_cast<std::size_t>(word * lanes + lane);
      require(same[k] == states[k], "sha256");
    }
  }
}

}  // namespace

int main() {
  check_type<std::uint8_t>();
  check_type<std::uint16_t>();
  check_type<std::uint32_t>();
  check_type<std::uint64_t>();
  for (const InstructionSet set : instruction_sets()) {
    use(name_of(set));
    check_sha256();
  }
  std::printf("all checked\n");
}
