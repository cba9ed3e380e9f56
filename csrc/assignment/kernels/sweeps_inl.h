// Sweeps over whole rows in float64, against prices.  Included by row_kernels_inl.h.
//
// Rows that are claimed, lowered or examined follow one another, as a rule, and the next is fetched
// ahead; where bids and paths go next is not known.
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
  const Ahead<T> ahead(costs, cols, costs + cols);
  constexpr int kBest = 4;  // chains of minima that do not wait for one another
  Doubles best[kBest];
  for (Doubles& x : best) x = Doubles::all(kInf);
  NanFlag nan;
  Index j = 0;
  for (; j + 8 * kBest <= row.whole(); j += 8 * kBest) {
    ahead.template fetch<8 * kBest * sizeof(T)>(j);
    Doubles c[kBest];
    for (int q = 0; q < kBest; ++q) c[q] = row.template direct<Doubles>(j + 8 * q);
    for (int q = 0; q < kBest; q += 2) nan.see(c[q], c[q + 1]);
    for (int q = 0; q < kBest; ++q) best[q] = min(c[q] - Doubles::load(v + j + 8 * q), best[q]);
  }
  for (; j < cols; j += 8) {
    const Doubles c = row.template block<Doubles>(j);
    nan.see(c, c);
    best[0] = min(c - Doubles::load(v + j), best[0]);
  }
  Claim out;
  out.best = least(min(min(best[0], best[1]), min(best[2], best[3])));
  out.valid = !nan.any() && out.best > -kInf;
  if (out.best == kInf || !out.valid) return out;
  const Doubles wanted = Doubles::all(out.best);
  for (j = 0; j < cols; j += 8) {
    if (free[j / 8] == 0) continue;
    const Doubles c = row.template block<Doubles>(j);
    const unsigned hits = (c - Doubles::load(v + j) == wanted).bits() & free[j / 8];
    if (hits == 0) continue;
    out.free_col = j + static_cast<Index>(__builtin_ctz(hits));
    break;
  }
  return out;
}

// How many of a sample of a row are `least`, and of how many; block(j) gives the 8 costs from j on,
// of which those behind the row do not count.
template <typename F>
std::pair<Index, Index> equal_in_sample(Index cols, double least, F block) {
  const Index blocks = (cols + 7) / 8, step = (blocks + kPlateauBlocks - 1) / kPlateauBlocks;
  const Doubles wanted = Doubles::all(least);
  Index equal = 0, seen = 0, j = 0;
  for (; j + 8 <= cols; j += 8 * step) {
    equal += __builtin_popcount((block(j) == wanted).bits());
    seen += 8;
  }
  if (j < cols) {
    const unsigned inside = (1u << (cols - j)) - 1;
    equal += __builtin_popcount((block(j) == wanted).bits() & inside);
    seen += cols - j;
  }
  return {equal, seen};
}

template <typename T>
bool is_plateau(const T* costs, Index cols, CostBits<T> bits, double least) {
  const Row<T> row(costs, cols, bits);
  const auto [equal, seen] =
      equal_in_sample(cols, least, [&](Index j) { return row.template block<Doubles>(j); });
  return !is_below(equal, seen, kPlateau);
}

template <typename T>
void relax(const T* costs, Index cols, CostBits<T> bits, Index i, double base, PathState& state) {
  const Row<T> row(costs, cols, bits);
  const Doubles from = Doubles::all(base), inf = Doubles::all(kInf);
  double* const distance = state.distance;
  const double* const price = state.price;
  Index* const predecessor = state.predecessor;
  const std::uint8_t* const free = state.free;
  double nearest = state.free_distance;
  Index nearest_col = state.free_col;
  Doubles limit = Doubles::all(nearest);

  // Lowers the distances of 8 columns; returns the new ones.
  auto lowered = [&](Index j, Doubles through, Doubles d) {
    Mask8 keep = through < min(d, limit);
    const unsigned shorter = keep.bits();
    if (shorter == 0) return d;
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
    return d;
  };

  // Four blocks of 8 at once: that any comes nearer is rare after the first few rows, and which of
  // them holds the least distance of a lane is asked at the end.
  constexpr int kBlocks = 4;
  const Doubles step = Doubles::all(8.0 * kBlocks);
  Doubles open = inf, open_at = inf, at = Doubles::all(0.0);
  auto note = [&](Doubles least) {
    open_at = select(least < open, at, open_at);
    open = min(least, open);
    at = at + step;
  };
  Index j = 0;
  for (; j + 8 * kBlocks <= row.whole(); j += 8 * kBlocks) {
    Doubles through[kBlocks], d[kBlocks];
    Mask8 shorter[kBlocks];
    for (int q = 0; q < kBlocks; ++q) {
      const Index k = j + 8 * q;
      through[q] = from + (row.template direct<Doubles>(k) - Doubles::load(price + k));
      d[q] = Doubles::load(distance + k);
      shorter[q] = through[q] < min(d[q], limit);
    }
    if (((shorter[0] | shorter[1]) | (shorter[2] | shorter[3])).any()) {
      for (int q = 0; q < kBlocks; ++q) {
        if (shorter[q].any()) d[q] = lowered(j + 8 * q, through[q], d[q]);
      }
    }
    note(min(min(d[0], d[1]), min(d[2], d[3])));
  }
  Doubles least_left = inf;
  for (Index k = j; k < cols; k += 8) {
    const Doubles through = from + (row.template block<Doubles>(k) - Doubles::load(price + k));
    least_left = min(lowered(k, through, Doubles::load(distance + k)), least_left);
  }
  note(least_left);

  state.free_distance = nearest;
  state.free_col = nearest_col;
  state.open_distance = least(open);
  state.open_col = kNone;
  if (state.open_distance < kInf) {
    double lanes[8];
    open_at.store(lanes);
    const int lane = __builtin_ctz((open == Doubles::all(state.open_distance)).bits());
    Index col = static_cast<Index>(lanes[lane]) + lane;
    while (distance[col] != state.open_distance) col += 8;
    state.open_col = col;
  }
}

template <typename T>
void lower(const T* costs, Index cols, CostBits<T> bits, double u, double* least_j) {
  const Row<T> row(costs, cols, bits);
  const Doubles dual = Doubles::all(u);
  for_blocks<Doubles>(row, Ahead<T>(costs, cols, costs + cols), [&](Index j, Doubles c) {
    min(c - dual, Doubles::load(least_j + j)).store(least_j + j);
  });
}

template <typename T>
double least_error(const T* costs, Index cols, CostBits<T> bits, const double* v, double u) {
  const Row<T> row(costs, cols, bits);
  const Doubles wanted = Doubles::all(u), none = Doubles::all(kInf);
  Doubles errors = none;
  for_blocks<Doubles>(row, [&](Index j, Doubles c) {
    const Doubles price = Doubles::load(v + j), x = c - price, taken = x - c;
    const Doubles error = (c - (x - taken)) - (price + taken);  // as in rounding_error.h
    errors = min(select(x == wanted, error, none), errors);
  });
  return least(errors);
}

template <typename T>
Greatest greatest_of(const T* costs, Index cols, CostBits<T> bits, const double* v) {
  const Row<T> row(costs, cols, bits);
  Doubles cost = Doubles::all(-kInf), price = cost;
  for (Index j = 0; j < row.whole(); j += 8) {
    cost = max(row.template direct<Doubles>(j), cost);
    price = max(Doubles::load(v + j), price);
  }
  double lanes[2][8];
  cost.store(lanes[0]);
  price.store(lanes[1]);
  Greatest out{*std::max_element(lanes[0], lanes[0] + 8),
               *std::max_element(lanes[1], lanes[1] + 8)};
  for (Index j = row.whole(); j < cols; ++j) {
    out.cost = std::max(out.cost, static_cast<double>(row[j]));
    out.price = std::max(out.price, v[j]);
  }
  return out;
}

// The minima of as many sets of columns: none of them exceeds the greatest.
template <typename T>
double exceeded_by_most(const T* costs, Index cols, CostBits<T> bits, const double* v, Index wanted,
                        double* least) {
  const Row<T> row(costs, cols, bits);
  std::fill_n(least, wanted, kInf);
  for (Index from = 0; from < row.whole(); from += wanted) {
    const Index end = std::min(wanted, row.whole() - from);
    for (Index k = 0; k < end; k += 8) {
      const Doubles x = row.template direct<Doubles>(from + k) - Doubles::load(v + from + k);
      min(x, Doubles::load(least + k)).store(least + k);
    }
  }
  return *std::max_element(least, least + wanted);
}

template <typename T>
Index below(const T* costs, Index cols, CostBits<T> bits, const double* v, double limit, Index most,
            double* cost, Index* col) {
  const Row<T> row(costs, cols, bits);
  const Doubles bound = Doubles::all(limit), none = Doubles::all(0.0);
  Index count = 0;
  for (Index j = 0; j < cols && count <= most; j += 8) {
    const Doubles price = v == nullptr ? none : Doubles::load(v + j);
    unsigned hits = (row.template block<Doubles>(j) - price < bound).bits();
    for (; hits != 0; hits &= hits - 1, ++count) {
      const Index at = j + static_cast<Index>(__builtin_ctz(hits));
      cost[count] = static_cast<double>(row[at]);
      col[count] = at;
    }
  }
  return count;
}

template <typename T>
bool on_grid(const T* costs, Index cols, CostBits<T> bits, double grid) {
  const Row<T> row(costs, cols, bits);
  // From 2^52 grids on float64 holds multiples of the grid only: what is added to that is rounded
  // to one, and what lies beyond is one.
  const Doubles far = Doubles::all(0x1p52 * grid), minus_far = Doubles::all(-0x1p52 * grid);
  Mask8 all = far == far;
  for_blocks<Doubles>(row, Ahead<T>(costs, cols, costs + cols), [&](Index, Doubles c) {
    const Doubles x = max(min(c, far), minus_far);
    all = all & ((x + far) - far == x) & ((x + minus_far) - minus_far == x);
  });
  return all.bits() == 0xffu;
}
