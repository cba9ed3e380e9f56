// The kernels of factor_kernels.h over the vectors of one instruction set.  Included, after its
// simd_*.h, into an unnamed namespace of the file that is compiled for that set.
//
// A tile of kTileRows rows and kTileVectors vectors of columns stays in registers while its terms
// are added.  A single row takes kSingleVectors vectors instead, so that as many sums are under
// way.
#pragma once

constexpr int kSingleVectors = 8;

template <bool distance, typename T>
inline Doubles with_term(Doubles sum, Doubles x, Doubles y) {
  if constexpr (distance) {
    const Doubles d = x - y;
    return sum + d * d;
  } else if constexpr (sizeof(T) == sizeof(float)) {
    return fused(x, y, sum);
  } else {
    return sum + x * y;
  }
}

inline Doubles finished(Doubles sum, FactorCost cost, double x_scale, const double* y_scale) {
  if (is_cosine(cost)) sum = sum * (Doubles::all(x_scale) * Doubles::load(y_scale));
  if (is_magnitude(cost)) sum = magnitude(sum);
  return cost == FactorCost::euclidean ? root(sum) : sum;
}

// Rows [R] and vectors [V] of columns from `at` on.
template <int R, int V, bool distance, typename T>
inline void factor_tile(const FactorBlock<T>& b, Index at) {
  constexpr Index kLanes = Doubles::kLanes;
  const T* y[V];
  for (int v = 0; v < V; ++v) {
    const Index j = at + v * kLanes;
    y[v] = b.panels + std::int64_t{j / kPanel} * b.terms * kPanel + j % kPanel;
  }
  Doubles sum[R][V];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) sum[r][v] = Doubles::all(0.0);
  }
  const double* x = b.x;
  for (std::int64_t t = 0; t < b.terms; ++t, x += R) {
    Doubles of_columns[V];
    for (int v = 0; v < V; ++v) of_columns[v] = wide(y[v] + t * kPanel);
    for (int r = 0; r < R; ++r) {
      const Doubles of_row = Doubles::all(x[r]);
      for (int v = 0; v < V; ++v) {
        sum[r][v] = with_term<distance, T>(sum[r][v], of_row, of_columns[v]);
      }
    }
  }
  const bool cosine = is_cosine(b.cost);
  for (int r = 0; r < R; ++r) {
    if (r == b.count) break;
    for (int v = 0; v < V; ++v) {
      const Index j = at + v * kLanes;
      const Doubles cost = finished(sum[r][v], b.cost, cosine ? b.x_scale[r] : 0.0,
                                    cosine ? b.y_scale + j : nullptr);
      double* const out = b.out[r] + (j - b.origin);
      if (j + kLanes <= b.end) {
        cost.store(out);
      } else if (j < b.end) {
        double lanes[kLanes];
        cost.store(lanes);
        for (Index k = 0; k < b.end - j; ++k) out[k] = lanes[k];
      }
    }
  }
}

// All columns, wide tiles first; the last panel is whole in memory.
template <int R, int V, bool distance, typename T>
void factor_columns(const FactorBlock<T>& b) {
  constexpr Index kWide = V * Doubles::kLanes;
  Index at = b.first;
  const Index whole = b.first + padded(b.end - b.first);
  for (; at + kWide <= whole; at += kWide) factor_tile<R, V, distance>(b, at);
  for (; at < b.end; at += Doubles::kLanes) factor_tile<R, 1, distance>(b, at);
}

template <bool distance, typename T>
void factor_block_of(const FactorBlock<T>& b) {
  if (b.width == 1) return factor_columns<1, kSingleVectors, distance>(b);
  factor_columns<kTileRows, kTileVectors, distance>(b);
}

template <typename T>
void factor_block(const FactorBlock<T>& b) {
  if (is_distance(b.cost)) return factor_block_of<true>(b);
  factor_block_of<false>(b);
}

template <typename T>
constexpr FactorSums<T> factor_sums() {
  return {kTileRows, factor_block<T>};
}
