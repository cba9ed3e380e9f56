// The two smallest costs of a row at price zero.  Included by row_kernels_inl.h.
//
// Four rows are swept side by side, where as many streams keep the memory busy, or one with the
// next fetched ahead (simd_*.h). Every kDeep vectors of a row their minimum, lane by lane, is
// written down; such a cell stands for kDeep entries that lie kLanes columns apart.  The cells,
// 1/16 of the row, are then searched for the smallest, and its entries for the column and the
// second smallest.
#pragma once

template <typename T>
using VectorOf = std::conditional_t<sizeof(T) == 4, Floats, Doubles>;

// Lanes equal to `x`, which none is less than.
inline unsigned holders(Floats lanes, Floats x) { return bits_le(lanes, x); }
inline unsigned holders(Doubles lanes, Doubles x) { return (lanes == x).bits(); }

template <typename T>
struct Cells {
  static constexpr int kLanes = VectorOf<T>::kLanes, kDeep = 16, kBlock = kLanes * kDeep;
  static Index count(Index cols) { return (cols + kBlock - 1) / kBlock * kLanes; }
};

template <typename T>
RowMinima minima_from(const Row<T>& row, const T* cells, Index count) {
  using V = VectorOf<T>;
  constexpr int kL = V::kLanes, kBlock = Cells<T>::kBlock;
  constexpr T inf = std::numeric_limits<T>::infinity();
  V lowest = V::all(inf), next = lowest;  // the two smallest cells of each lane
  for (Index k = 0; k < count; k += kL) {
    const V x = V::load(cells + k);
    next = min(next, max(lowest, x));
    lowest = min(lowest, x);
  }
  RowMinima out;
  const T best = least(lowest);
  out.best = static_cast<double>(best);
  out.valid = best > -inf;
  if (!out.valid || best == inf) return out;

  const V wanted = V::all(best);
  const unsigned held = holders(lowest, wanted);
  T lanes[kL];
  lowest.store(lanes);
  lanes[__builtin_ctz(held)] = inf;
  T second = least(min(V::load(lanes), next));
  if ((held & (held - 1)) != 0) second = best;
  // One cell as a rule; several where the row ties.  Nothing here branches on where it lies.
  Index col = row.cols(), found = 0;
  auto look_into = [&](Index begin, Index end) {
    for (Index j = begin; j < end; j += kL) {
      const T x = row[j];
      const bool is_best = x == best;
      second = !is_best && x < second ? x : second;
      col = is_best && j < col ? j : col;
      found += is_best;
    }
  };
  constexpr Index kWord = 64 / kL * kL;
  for (Index k = 0; k < count; k += kWord) {
    std::uint64_t hits = 0;
    for (Index q = 0; q < kWord && k + q < count; q += kL) {
      hits |= std::uint64_t{holders(V::load(cells + k + q), wanted)} << q;
    }
    for (; hits != 0; hits &= hits - 1) {
      const auto at = k + static_cast<Index>(__builtin_ctzll(hits));
      const Index block = at / kL * kBlock;
      if (block < col) look_into(block + at % kL, std::min(block + kBlock, row.cols()));
    }
  }
  if (found > 1) second = best;
  out.col = col;
  out.second = static_cast<double>(second);
  return out;
}

template <typename T, int kRows>
void minima_of(const T* const* data, const T* next, Index cols, CostBits<T> bits, T* cells,
               RowMinima* out) {
  using V = VectorOf<T>;
  constexpr int kL = V::kLanes, kBlock = Cells<T>::kBlock;
  const V inf = V::all(std::numeric_limits<T>::infinity());
  const Index count = Cells<T>::count(cols);
  const Ahead<T> ahead(data[0], cols, next);
  NanFlag nan;
  Index j = 0, k = 0;
  for (; j + kBlock <= cols; j += kBlock, k += kL) {
    V cell[kRows];
    for (V& c : cell) c = inf;
    for (Index at = j; at < j + kBlock; at += 4 * kL) {
      ahead.template fetch<4 * kL * sizeof(T)>(at);
      for (int r = 0; r < kRows; ++r) {
        V x[4];
        for (int q = 0; q < 4; ++q) x[q] = V::load(data[r] + at + q * kL, bits);
        cell[r] = min(cell[r], min(min(x[0], x[1]), min(x[2], x[3])));
        nan.see(x[0], x[1]);
        nan.see(x[2], x[3]);
      }
    }
    for (int r = 0; r < kRows; ++r) cell[r].store(cells + r * count + k);
  }
  ahead.begin_next();
  for (int r = 0; r < kRows; ++r) {
    const Row<T> row(data[r], cols, bits);
    if (j < cols) {
      V cell = inf;
      for (Index at = j; at < cols; at += kL) {
        const V x = row.template block<V>(at);
        cell = min(cell, x);
        nan.see(x, x);
      }
      cell.store(cells + r * count + k);
    }
    out[r] = minima_from(row, cells + r * count, count);
  }
  if (nan.any()) {
    for (int r = 0; r < kRows; ++r) out[r].valid = false;
  }
}

template <typename T>
void minima(const RowGroup<T>& group, Index cols, CostBits<T> bits, double* cells, RowMinima* out) {
  T* const room = reinterpret_cast<T*>(cells);
  int r = 0;
  for (; r + kSideBySide <= group.count; r += kSideBySide) {
    const T* const next = after(group, r + kSideBySide);
    minima_of<T, kSideBySide>(group.row + r, next, cols, bits, room, out + r);
  }
  for (; r < group.count; ++r) {
    minima_of<T, 1>(group.row + r, after(group, r + 1), cols, bits, room, out + r);
  }
}
