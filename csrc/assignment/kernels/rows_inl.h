// Rows of a matrix as the kernels read them.  Included by row_kernels_inl.h.
#pragma once

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr float kInfF = std::numeric_limits<float>::infinity();
constexpr float kMaxF = std::numeric_limits<float>::max();

// A row in memory: full blocks are loaded from where they lie, the last one from a copy that is
// filled up with infinite costs.
template <typename T>
class Row {
 public:
  Row() = default;
  Row(const T* row, Index cols, CostBits<T> bits)
      : row_(row), cols_(cols), whole_(cols / kPad * kPad), bits_(bits) {
    if (whole_ == cols) return;
    for (Index k = 0; k < kPad; ++k) {
      tail_[k] = whole_ + k < cols ? bits(row[whole_ + k]) : std::numeric_limits<T>::infinity();
    }
  }
  Index cols() const { return cols_; }
  Index whole() const { return whole_; }  // columns from here on lie in the copy
  T operator[](Index j) const { return bits_(row_[j]); }

  template <typename V>
  V direct(Index j) const {
    return V::load(row_ + j, bits_);
  }
  template <typename V>
  V copied(Index j) const {
    return V::load(tail_ + (j - whole_), CostBits<T>());
  }
  template <typename V>
  V block(Index j) const {
    return j < whole_ ? direct<V>(j) : copied<V>(j);
  }

 private:
  const T* row_ = nullptr;
  Index cols_ = 0, whole_ = 0;
  CostBits<T> bits_;
  T tail_[kPad];
};

// Fetches what will be read when a sweep has come fetch_distance() bytes further: the rest of the
// row, then `next`, the row that follows.  Where that is nothing, only the beginning of `next`,
// while the row is searched for what its sweep has found.  Addresses, as they may lie beyond the
// matrix.
template <typename T>
class Ahead {
 public:
  Ahead(const T* row, Index cols, const T* next)
      : distance_(kFetches ? fetch_distance() : 0),
        row_(reinterpret_cast<std::uintptr_t>(row) + distance_),
        next_(reinterpret_cast<std::uintptr_t>(next) + distance_),
        cols_(cols) {}
  // Within a sweep, what lies so far ahead of the kBytes from entry j on.
  template <int kBytes>
  void fetch(Index j) const {
    if (!kFetches || distance_ == 0) return;
    const Index rest = cols_ - distance_ / static_cast<Index>(sizeof(T));
    const std::uintptr_t from = j < rest ? row_ : next_ - cols_ * std::uintptr_t{sizeof(T)};
    fetch_bytes<kBytes>(from + j * std::uintptr_t{sizeof(T)});
  }
  // After a sweep, kBytes of what it has left of `next`.
  template <int kBytes>
  void fetch_next(int at) const {
    fetch_bytes<kBytes>(next_ + static_cast<std::uintptr_t>(at));
  }
  // The same, where sweeps themselves fetch nothing.
  void begin_next() const {
    if (kFetches && distance_ == 0) fetch_next<1024>(0);
  }

 private:
  template <int kBytes>
  static void fetch_bytes(std::uintptr_t from) {
    for (int b = 0; b < kBytes; b += 64)
      __builtin_prefetch(reinterpret_cast<const void*>(from + b));
  }

  int distance_;
  std::uintptr_t row_, next_;
  Index cols_;
};

// What is swept once k rows of a group have been.
template <typename T>
inline const T* after(const RowGroup<T>& group, int k) {
  return k < std::min(group.count, kGroup) ? group.row[k] : group.ahead[0];
}

// Calls f(j, block) for j = 0, V::kLanes, ... over the row and its padding.
template <typename V, typename T, typename F>
inline void for_blocks(const Row<T>& row, F f) {
  Index j = 0;
  for (; j < row.whole(); j += V::kLanes) f(j, row.template direct<V>(j));
  for (; j < row.cols(); j += V::kLanes) f(j, row.template copied<V>(j));
}
// The same, with `ahead` fetched.
template <typename V, typename T, typename F>
inline void for_blocks(const Row<T>& row, const Ahead<T>& ahead, F f) {
  Index j = 0;
  for (; j < row.whole(); j += kPad) {
    ahead.template fetch<kPad * sizeof(T)>(j);
    for (Index k = j; k < j + kPad; k += V::kLanes) f(k, row.template direct<V>(k));
  }
  for (; j < row.cols(); j += V::kLanes) f(j, row.template copied<V>(j));
}
