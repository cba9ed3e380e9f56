// Rows of a matrix as the kernels read them.  Included by row_kernels_impl.h.
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
  V direct(Index j) const { return V::load(row_ + j, bits_); }
  template <typename V>
  V copied(Index j) const { return V::load(tail_ + (j - whole_), CostBits<T>()); }
  template <typename V>
  V block(Index j) const { return j < whole_ ? direct<V>(j) : copied<V>(j); }

 private:
  const T* row_ = nullptr;
  Index cols_ = 0, whole_ = 0;
  CostBits<T> bits_;
  T tail_[kPad];
};

// Calls f(j, block) for j = 0, V::kLanes, ... over the row and its padding.
template <typename V, typename T, typename F>
inline void for_blocks(const Row<T>& row, F f) {
  Index j = 0;
  for (; j < row.whole(); j += V::kLanes) f(j, row.template direct<V>(j));
  for (; j < row.cols(); j += V::kLanes) f(j, row.template copied<V>(j));
}
