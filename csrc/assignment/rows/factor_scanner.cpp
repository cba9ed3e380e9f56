#include "factor_scanner.h"

#include <algorithm>
#include <cmath>

namespace bmatch {
namespace {

constexpr std::int64_t kColumnBytes = std::int64_t{1} << 17;  // of columns' factors in a cache
constexpr Index kTileCols = 1024;                      // of a pass: what is made stays in a cache
constexpr std::int64_t kRoom = std::int64_t{1} << 22;  // numbers that rows are made in at a time
constexpr int kMostRows = 64;                          // that are made together

// One over the norm of each row, or zero for a row of zeros; zero behind the last.
template <typename T>
std::vector<double> inverse_norms(const FactorView<T>& x) {
  std::vector<double> inverse(static_cast<std::size_t>(padded(x.rows)), 0.0);
  for (Index i = 0; i < x.rows; ++i) {
    double squares = 0.0;
    for (Index t = 0; t < x.terms; ++t) {
      const double f = x.row(i)[t];
      squares += f * f;
    }
    if (squares > 0.0) inverse[i] = 1.0 / std::sqrt(squares);
  }
  return inverse;
}

template <typename T>
ReusedVector<T> in_panels(const FactorView<T>& y) {
  ReusedVector<T> panels(static_cast<std::size_t>(padded(y.rows)) * y.terms);
  T* out = panels.data();
  for (Index from = 0; from < y.rows; from += kPanel) {
    for (Index t = 0; t < y.terms; ++t) {
      for (Index j = from; j < from + kPanel; ++j) *out++ = j < y.rows ? y.row(j)[t] : T{0};
    }
  }
  return panels;
}

}  // namespace

template <typename T>
FactorScanner<T>::FactorScanner(const FactorView<T>& x, const FactorView<T>& y, FactorCost cost,
                                Sense sense, std::int64_t bytes)
    : x_(x),
      y_(y),
      cost_(cost),
      sense_(sense),
      bytes_(bytes),
      bits_(sense),
      panels_(in_panels(y)),
      cache_(x.rows, y.rows, bytes) {
  if (!is_cosine(cost)) return;
  x_scale_ = inverse_norms(x);
  y_scale_ = inverse_norms(y);
}

// Some columns after the others, so that their factors are in a cache when the next rows want them.
template <typename T>
void FactorScanner<T>::entries(const Index* rows, int count, Index first, Index end,
                               double* const* out) const {
  const FactorSums<T>& sums = factor_kernels().sums<T>();
  const Index terms = x_.terms;
  // Rows of the last block, too, are as many as are computed together: the last one again.
  const int width = count == 1 ? 1 : sums.rows, blocks = (count + width - 1) / width;
  ReusedVector<double> x(static_cast<std::size_t>(blocks) * width * terms);
  std::vector<double> scale(static_cast<std::size_t>(blocks) * width, 0.0);
  double* packed = x.data();
  for (int begin = 0; begin < blocks * width; begin += width, packed += width * terms) {
    for (int r = 0; r < width; ++r) {
      const Index i = rows[std::min(begin + r, count - 1)];
      const T* const from = x_.row(i);
      for (Index t = 0; t < terms; ++t) packed[std::int64_t{t} * width + r] = from[t];
      if (is_cosine(cost_)) scale[begin + r] = x_scale_[i];
    }
  }
  const auto column_bytes = static_cast<std::int64_t>(sizeof(T)) * std::max<Index>(terms, 1);
  const auto fitting = static_cast<Index>(kColumnBytes / column_bytes) / kPanel * kPanel;
  const Index step = blocks == 1 ? padded(end - first) : std::max(fitting, kPanel);
  for (Index from = first; from < end; from += step) {
    const Index to = std::min(from + std::min(step, end - from), end);
    for (int begin = 0; begin < count; begin += width) {
      sums.block({cost_, terms, x.data() + std::int64_t{begin} * terms, scale.data() + begin,
                  std::min(width, count - begin), width, panels_.data(), y_scale_.data(), from, to,
                  first, out + begin});
    }
  }
}

template <typename T>
double FactorScanner<T>::entry(Index i, Index j) const {
  const T *const a = x_.row(i), *const b = y_.row(j);
  double sum = 0.0;
  for (Index t = 0; t < x_.terms; ++t) {
    const double x = a[t], y = b[t];
    if (is_distance(cost_)) {
      const double d = x - y;
      sum += d * d;
    } else {
      sum += x * y;
    }
  }
  if (is_cosine(cost_)) sum *= x_scale_[i] * y_scale_[j];
  if (is_magnitude(cost_)) sum = std::fabs(sum);
  return cost_ == FactorCost::euclidean ? std::sqrt(sum) : sum;
}

template <typename T>
double FactorScanner<T>::cost(Index i, Index j) const {
  return bits_(entry(i, j));
}

template <typename T>
StoredRow FactorScanner<T>::row(Index i, double* room) const {
  const auto make = [&](double* out) { entries(&i, 1, 0, cols(), &out); };
  const double* row = cache_.find(i);
  if (row == nullptr) row = cache_.keep(i, make);
  if (row == nullptr) {
    make(room);
    row = room;
  }
  return {row, sense_};
}

template <typename T>
AnyCostView FactorScanner<T>::whole() const {
  const std::int64_t wide = cols();
  copy_ = ReusedVector<double>(static_cast<std::size_t>(rows() * wide));
  for (Index i = 0; i < rows(); ++i) {
    double* const out = copy_.data() + i * wide;
    entries(&i, 1, 0, cols(), &out);
  }
  return CostView<double>{copy_.data(), rows(), cols(), wide, 1, sense_};
}

template <typename T>
std::unique_ptr<RowScanner> FactorScanner<T>::columns() const {
  return std::make_unique<FactorScanner<T>>(y_, x_, cost_, sense_, bytes_);
}

template <typename T>
void FactorScanner<T>::minima(Index first, int count, RowMinima* out, Scratch& scratch) const {
  const auto& scans = row_kernels().scans<double>();
  ReusedVector<double> room(static_cast<std::size_t>(count) * kTileCols);
  std::vector<double*> made(count);
  std::vector<Index> rows(count);
  for (int k = 0; k < count; ++k) {
    rows[k] = first + k;
    made[k] = room.data() + std::int64_t{k} * kTileCols;
    out[k] = {};
  }
  for (Index from = 0; from < cols(); from += kTileCols) {
    const Index wide = std::min(kTileCols, cols() - from);
    entries(rows.data(), count, from, from + wide, made.data());
    for (int k = 0; k < count; ++k) {
      RowGroup<double> one{};
      one.count = 1;
      one.index[0] = rows[k];
      one.row[0] = one.ahead[0] = made[k];
      RowMinima of_tile;
      scans.minima(one, wide, bits_, scratch.cells(), &of_tile);
      RowMinima& all = out[k];
      if (of_tile.best < all.best) {
        all.second = std::min(all.best, of_tile.second);
        all.best = of_tile.best;
        all.col = from + of_tile.col;
      } else {
        all.second = std::min(all.second, of_tile.best);
      }
      all.valid &= of_tile.valid;
    }
  }
}

template <typename T>
void FactorScanner<T>::candidates(const Index* rows, int count, PriceView prices, CandidateRow* out,
                                  Scratch& scratch) const {
  const auto& scans = row_kernels().scans<double>();
  const std::int64_t pitch = padded(cols());
  const auto at_once =
      static_cast<int>(std::clamp<std::int64_t>(kRoom / pitch, 1, std::min(count, kMostRows)));
  ReusedVector<double> room(static_cast<std::size_t>(at_once * pitch));
  std::vector<const double*> row(count);
  std::vector<Index> wanted;
  std::vector<double*> made;
  for (int begin = 0; begin < count; begin += at_once) {
    const int end = std::min(begin + at_once, count);
    wanted.clear();
    made.clear();
    for (int k = begin; k < end; ++k) {
      const Index i = rows[k];
      row[k] = cache_.find(i);
      if (row[k] == nullptr && prices.v != nullptr) {
        row[k] = cache_.keep(i, [&](double* own) { entries(&i, 1, 0, cols(), &own); });
      }
      if (row[k] != nullptr) continue;
      wanted.push_back(i);
      made.push_back(room.data() + static_cast<std::int64_t>(made.size()) * pitch);
      row[k] = made.back();
    }
    if (!wanted.empty()) {
      entries(wanted.data(), static_cast<int>(wanted.size()), 0, cols(), made.data());
    }
    for (int k = begin; k < end; ++k) {
      RowGroup<double> one{};
      one.count = 1;
      one.index[0] = rows[k];
      one.row[0] = one.ahead[0] = row[k];
      scans.candidates(one, cols(), bits_, prices, scratch.cells(), out + k);
    }
  }
}

template class FactorScanner<float>;
template class FactorScanner<double>;

}  // namespace bmatch
