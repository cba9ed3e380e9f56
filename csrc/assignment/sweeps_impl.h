// Sweeps over whole rows in float64, against prices.  Included by row_kernels_impl.h.
#pragma once

template <typename T>
BestTwo best_two(const T* costs, Index cols, CostBits<T> bits, const double* v,
                 const std::uint8_t* free) {
  const Row<T> row(costs, cols, bits);
  const Doubles inf = Doubles::all(kInf), eight = Doubles::all(8.0);
  Doubles best = inf, second = inf, col = inf, best_free = inf, free_col = inf;
  Doubles at = Doubles::iota();
  for_blocks<Doubles>(row, [&](Index j, Doubles c) {
    const Doubles x = c - Doubles::load(v + j);
    const Mask8 less = x < best;
    second = min(second, max(best, x));
    best = min(x, best);
    col = select(less, at, col);
    const Doubles open = select(Mask8::of(free[j / 8]), x, inf);
    free_col = select(open < best_free, at, free_col);
    best_free = min(open, best_free);
    at = at + eight;
  });
  BestTwo out;
  out.best = least(best);
  if (out.best == kInf) return out;
  const Mask8 holds = best == Doubles::all(out.best);
  const double lowest = least(select(holds, col, inf));
  out.col = static_cast<Index>(lowest);
  // The holder's lane gives its second, the other lanes their best.
  const Mask8 holder = holds & (col == Doubles::all(lowest));
  out.second = least(select(holder, second, best));
  out.best_free = least(best_free);
  if (out.best_free < kInf) {
    const Mask8 nearest = best_free == Doubles::all(out.best_free);
    out.free_col = static_cast<Index>(least(select(nearest, free_col, inf)));
  }
  return out;
}

template <typename T>
Claim claim(const T* costs, Index cols, CostBits<T> bits, const double* v,
            const std::uint8_t* free) {
  const Row<T> row(costs, cols, bits);
  Doubles best[2] = {Doubles::all(kInf), Doubles::all(kInf)};
  NanFlag nan;
  for_blocks<Doubles>(row, [&](Index j, Doubles c) {
    nan.see(c, c);
    best[j / 8 % 2] = min(c - Doubles::load(v + j), best[j / 8 % 2]);
  });
  Claim out;
  out.best = least(min(best[0], best[1]));
  out.valid = !nan.any() && out.best > -kInf;
  if (out.best == kInf || !out.valid) return out;
  const Doubles wanted = Doubles::all(out.best);
  for (Index j = 0; j < cols; j += 8) {
    if (free[j / 8] == 0) continue;
    const Doubles c = j < row.whole() ? row.template direct<Doubles>(j)
                                      : row.template copied<Doubles>(j);
    const unsigned hits = (c - Doubles::load(v + j) == wanted).bits() & free[j / 8];
    if (hits == 0) continue;
    out.free_col = j + static_cast<Index>(__builtin_ctz(hits));
    break;
  }
  return out;
}

template <typename T>
void relax(const T* costs, Index cols, CostBits<T> bits, Index i, double base, PathState& state) {
  const Row<T> row(costs, cols, bits);
  const Doubles from = Doubles::all(base), eight = Doubles::all(8.0);
  Doubles limit = Doubles::all(state.free_distance);
  Doubles open = Doubles::all(kInf), open_col = open, at = Doubles::iota();
  double* const distance = state.distance;
  const double* const price = state.price;
  Index* const predecessor = state.predecessor;
  const std::uint8_t* const free = state.free;
  double nearest = state.free_distance;
  Index nearest_col = state.free_col;
  for_blocks<Doubles>(row, [&](Index j, Doubles c) {
    const Doubles through = from + (c - Doubles::load(price + j));
    Doubles d = Doubles::load(distance + j);
    Mask8 keep = through < min(d, limit);
    if (const unsigned shorter = keep.bits(); shorter != 0) {  // rare after the first few rows
      if (unsigned hits = shorter & free[j / 8]; hits != 0) {
        double lanes[8];
        through.store(lanes);
        for (; hits != 0; hits &= hits - 1) {
          const int k = __builtin_ctz(hits);
          if (lanes[k] < nearest) {
            nearest = lanes[k];
            nearest_col = j + k;
            predecessor[j + k] = i;
          }
        }
        limit = Doubles::all(nearest);
      }
      keep = keep.without(Mask8::of(free[j / 8]));
      d = select(keep, through, d);
      d.store(distance + j);
      store_where(predecessor + j, keep, i);
    }
    open_col = select(d < open, at, open_col);
    open = min(d, open);
    at = at + eight;
  });
  state.free_distance = nearest;
  state.free_col = nearest_col;
  state.open_distance = least(open);
  state.open_col = kNone;
  if (state.open_distance < kInf) {
    double lanes[8];
    open_col.store(lanes);
    const unsigned holds = (open == Doubles::all(state.open_distance)).bits();
    state.open_col = static_cast<Index>(lanes[__builtin_ctz(holds)]);
  }
}

template <typename T>
void lower(const T* costs, Index cols, CostBits<T> bits, double u, double* least_j) {
  const Row<T> row(costs, cols, bits);
  const Doubles dual = Doubles::all(u);
  for_blocks<Doubles>(row, [&](Index j, Doubles c) {
    min(c - dual, Doubles::load(least_j + j)).store(least_j + j);
  });
}

template <typename T>
bool on_grid(const T* costs, Index cols, CostBits<T> bits, double grid) {
  const Row<T> row(costs, cols, bits);
  // From 2^52 grids on float64 holds multiples of the grid only: what is added to that is rounded
  // to one, and what lies beyond is one.
  const Doubles far = Doubles::all(0x1p52 * grid), minus_far = Doubles::all(-0x1p52 * grid);
  Mask8 all = far == far;
  for_blocks<Doubles>(row, [&](Index, Doubles c) {
    const Doubles x = max(min(c, far), minus_far);
    all = all & ((x + far) - far == x) & ((x + minus_far) - minus_far == x);
  });
  return all.bits() == 0xffu;
}
