#include "take.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <limits>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <utility>
#include <vector>

#include "square.h"
#include "threads.h"

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

// A square's rows are a block: a column of it is 16 bytes.
struct alignas(16) Chunk {
  unsigned char bytes[16];
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
  constexpr int n = Square<T>::n;
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

// What all rows of a task share, and room for a block of them.
template <typename T, typename Column>
class Taking {
 public:
  explicit Taking(const Take& task) : task_(task) {
    if (task.columns != nullptr) {
      columns_.assign(task.columns, task.columns + task.cols);
      signs_.resize(columns_.size());
      turned_.resize(columns_.size());
    }
    for (std::size_t j = 0; j < columns_.size(); ++j) {
      signs_[j] = task.turned_columns != nullptr && task.turned_columns[j] ? kSign<T> : T{0};
      turned_[j] = signs_[j] ^ kSign<T>;
    }
    room_.resize(task.rows < Square<T>::n ? 0 : columns_.size());
  }

  // Entries `first_col` to `last_col` of rows `first` to `last`, one row after another; all entries
  // where columns are taken.
  void operator()(std::int64_t first, std::int64_t last, std::int64_t first_col,
                  std::int64_t last_col, void* to) {
    constexpr int n = Square<T>::n;
    const std::int64_t cols = last_col - first_col;
    const T* const source = static_cast<const T*>(task_.source) + first_col;
    T* out = static_cast<T*>(to);
    std::int64_t i = first;
    for (; !room_.empty() && i + n <= last; i += n, out += n * cols) {
      const T *rows[n], *signs[n];
      T* to_row[n];
      for (int k = 0; k < n; ++k) {
        rows[k] = source + task_.starts[i + k];
        signs[k] = (is_turned(i + k) ? turned_ : signs_).data();
        to_row[k] = out + k * cols;
      }
      take_block(rows, columns_.data(), signs, cols, to_row, room_.data());
    }
    for (; i < last; ++i, out += cols) {
      const T* const row = source + task_.starts[i];
      if (!columns_.empty()) {
        take_columns(row, columns_.data(), (is_turned(i) ? turned_ : signs_).data(), cols, out);
      } else if (is_turned(i)) {
        for (std::int64_t j = 0; j < cols; ++j) out[j] = row[j] ^ kSign<T>;
      } else {
        std::memcpy(out, row, static_cast<std::size_t>(cols) * sizeof(T));
      }
    }
  }

 private:
  bool is_turned(std::int64_t row) const { return task_.turned != nullptr && task_.turned[row]; }

  const Take& task_;
  std::vector<Column> columns_;    // empty where none are taken
  std::vector<T> signs_, turned_;  // of columns, in a row that is turned or not
  std::vector<Chunk> room_;
};

// Calls f with the `Taking` of a task. Columns are numbers of 16 bits, where there are so few: they
// stay in the nearest cache.
template <typename F>
void with_taking(const Take& task, F f) {
  with_size(task.itemsize, [&](auto entry) {
    using T = decltype(entry);
    const std::int32_t *const first = task.columns, *const last =
                                                        first + (first == nullptr ? 0 : task.cols);
    if (std::all_of(first, last, [](std::int32_t column) { return column < 1 << 16; })) {
      f(Taking<T, std::uint16_t>(task));
    } else {
      f(Taking<T, std::int32_t>(task));
    }
  });
}

// Pieces of rows on their way to a file.  A file system lets one thread write to a file at a time,
// so one does, the others take pieces for it, and it takes them itself when none is ready.
class Pieces {
  static constexpr int kRooms = 16;  // at least, where threads share them
  static constexpr std::int64_t kFileBlock = 4096;

 public:
  Pieces(const Take& task, int file, std::int64_t at, std::int64_t piece, int threads)
      : rows_(task.rows), cols_(task.cols), size_(task.itemsize), file_(file), at_(at) {
    step_ = std::clamp<std::int64_t>(piece / (cols_ * size_), 1, rows_);
    const std::int64_t part = std::max<std::int64_t>(1, piece / size_);
    width_ = task.columns == nullptr ? std::min(cols_, part) : cols_;
    across_ = (cols_ + width_ - 1) / width_;
    count_ = (rows_ + step_ - 1) / step_ * across_;
    room_.resize(static_cast<std::size_t>(threads == 1 ? 1 : std::max(kRooms, 2 * threads)));
    for (auto& room : room_) {
      room.reset(new unsigned char[static_cast<std::size_t>(kFileBlock + step_ * width_ * size_)]);
      free_.push_back(room.get() + kFileBlock);
    }
  }

  template <typename T, typename Column>
  void take_and_write(Taking<T, Column>& taking, bool writes) {
    std::unique_lock<std::mutex> lock(guard_);
    while (error_ == 0 && (next_ < count_ || (writes && (taken_ > 0 || !ready_.empty())))) {
      if (writes && !ready_.empty()) {
        const Ready piece = ready_.front();
        ready_.pop_front();
        lock.unlock();
        const int error = write(piece);
        lock.lock();
        free_.push_back(piece.content);
        if (error != 0) error_ = error;
        if (has_room() || error != 0) changed_.notify_all();
      } else if (next_ < count_ && !free_.empty()) {
        const std::int64_t k = next_++;
        unsigned char* const room = free_.back();
        free_.pop_back();
        ++taken_;
        lock.unlock();
        const std::int64_t row = k / across_ * step_, col = k % across_ * width_;
        const std::int64_t last = std::min(row + step_, rows_),
                           last_col = std::min(col + width_, cols_);
        taking(row, last, col, last_col, room);
        lock.lock();
        --taken_;
        ready_.push_back(
            {room, (last - row) * (last_col - col) * size_, at_ + (row * cols_ + col) * size_});
        if (writer_waits_) changed_.notify_all();
      } else if (writes) {
        writer_waits_ = true;
        changed_.wait(lock, [&] { return !ready_.empty(); });
        writer_waits_ = false;
      } else {
        // For room for several: to be woken for each takes longer than to take it.
        changed_.wait(lock, [&] { return has_room() || next_ == count_ || error_ != 0; });
      }
    }
    changed_.notify_all();
  }

  void finish() {
    if (error_ == 0) error_ = write_all(tail_, held_, held_at_);
    if (error_ != 0) throw std::system_error(error_, std::generic_category());
  }

 private:
  bool has_room() const { return 2 * free_.size() >= room_.size(); }

  struct Ready {
    unsigned char* content;
    std::int64_t count, at;  // bytes, and where in the file
  };

  // What does not fill a block of the file waits for what follows it: a block that is written in
  // two parts takes a file system twice as long.
  int write(Ready piece) {
    if (held_at_ + held_ == piece.at) {
      piece = {piece.content - held_, piece.count + held_, held_at_};
      std::memcpy(piece.content, tail_, static_cast<std::size_t>(held_));
    } else if (const int error = write_all(tail_, held_, held_at_)) {
      return error;
    }
    held_ = std::min(piece.count, (piece.at + piece.count) % kFileBlock);
    piece.count -= held_;
    held_at_ = piece.at + piece.count;
    std::memcpy(tail_, piece.content + piece.count, static_cast<std::size_t>(held_));
    return write_all(piece.content, piece.count, piece.at);
  }

  int write_all(const unsigned char* content, std::int64_t count, std::int64_t at) const {
    while (count > 0) {
      const ssize_t some = pwrite(file_, content, static_cast<std::size_t>(count), at);
      if (some < 0 && errno != EINTR) return errno;
      if (some > 0) content += some, count -= some, at += some;
    }
    return 0;
  }

  std::int64_t rows_, cols_, size_;
  int file_;
  std::int64_t at_;
  std::int64_t step_, width_;    // rows and columns of a piece
  std::int64_t across_, count_;  // pieces beside one another, and all
  std::vector<std::unique_ptr<unsigned char[]>> room_;

  unsigned char tail_[kFileBlock];  // of whoever writes
  std::int64_t held_ = 0, held_at_ = 0;

  std::mutex guard_;
  std::condition_variable changed_;
  std::vector<unsigned char*> free_;
  std::deque<Ready> ready_;
  std::int64_t next_ = 0;
  int taken_ = 0;  // pieces that are being taken
  bool writer_waits_ = false;
  int error_ = 0;
};

}  // namespace

void take(const Take& task, void* out) {
  with_taking(task, [&](auto taking) { taking(0, task.rows, 0, task.cols, out); });
}

void take_to_file(const Take& task, int file, std::int64_t at, std::int64_t piece, int threads) {
  if (task.rows == 0 || task.cols == 0) return;
  Pieces pieces(task, file, at, piece, threads);
  with_taking(task, [&](const auto& taking) {
    ThreadTeam team(threads);
    team.run([&](int k) {
      auto own = taking;  // with room of its own
      pieces.take_and_write(own, k == 0);
    });
  });
  pieces.finish();
}

}  // namespace bmatch
