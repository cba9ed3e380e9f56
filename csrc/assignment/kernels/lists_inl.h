// Candidate lists.  Included by row_kernels_inl.h.
//
// Sweep 1 writes down the minima of 4 entries that lie 16 columns apart, 16 such cells for a block
// of 64 columns, in rows side by side (minima_inl.h says why).  Four by four the cells give
// minima in 64 lanes; tau is a value with at least 16 of them at or below it, hardly more.
// Sweep 2 looks into the blocks that have a cell at or below tau and collects what is at or below
// it, about 18 columns.  If more than the capacity come, the 16 cheapest are kept.  Where rows are
// short and soon read again, fewer do: bids and paths then run over two thirds as much.
//
// Both sweeps work in float32 on a stand-in s_j for the exact value x_j = c_j - v_j in float64:
//   - s_j rounded toward minus infinity from x_j.  Then s_j > tau implies x_j >= the float
//     above tau, which is the bound.
//   - For float32 costs, c_j - v_j in float32, wrong by less than
//     delta = 1.2e-7 (max |v| + |tau|) where s_j is near tau, and by no more, relatively, beyond.
//     Collected is s_j <= tau + 2 delta, the bound is tau + delta.
// What is collected is compared in float64, so that bounds made by shrinking are exact.
#pragma once

constexpr Index kCellBlock = 64;
inline Index cells_of(Index cols) { return (cols + kCellBlock - 1) / kCellBlock * 16; }

struct PlainStandIn {  // exact: float32 costs, price zero
  const Row<float>* row;
  template <bool direct>
  Floats block(Index j) const {
    return direct ? row->direct<Floats>(j) : row->copied<Floats>(j);
  }
  double exact(Index j) const { return (*row)[j]; }
};

struct RoundedStandIn {  // float32 costs less float32 prices
  const Row<float>* row;
  const float* rounded;
  const double* v;
  template <bool direct>
  Floats block(Index j) const {
    return (direct ? row->direct<Floats>(j) : row->copied<Floats>(j)) - Floats::load(rounded + j);
  }
  double exact(Index j) const { return static_cast<double>((*row)[j]) - v[j]; }
};

template <typename T, bool priced>
struct LowerStandIn {  // float64 values rounded toward minus infinity
  const Row<T>* row;
  const double* v;
  template <bool direct>
  Doubles half(Index j) const {
    const Doubles c = direct ? row->template direct<Doubles>(j) : row->template copied<Doubles>(j);
    if constexpr (priced)
      return c - Doubles::load(v + j);
    else
      return c;
  }
  template <bool direct>
  Floats block(Index j) const {
    return Floats::down(half<direct>(j), half<direct>(j + 8));
  }
  double exact(Index j) const {
    return priced ? static_cast<double>((*row)[j]) - v[j] : static_cast<double>((*row)[j]);
  }
};

// The cell of 64 columns from j on.
template <bool check, typename StandIn>
inline Floats cell_at(const StandIn& s, Index j, NanFlag& nan) {
  Floats x[4];
  for (int q = 0; q < 4; ++q) x[q] = s.template block<true>(j + 16 * q);
  if constexpr (check) {
    nan.see(x[0], x[1]);
    nan.see(x[2], x[3]);
  }
  return min(min(x[0], x[1]), min(x[2], x[3]));
}

// Which of 64 columns from j on have a stand-in at or below t; an exact one, below the limit.
template <typename StandIn>
inline std::uint64_t hits_at(const StandIn& s, Index j, float t, double) {
  std::uint64_t hits = 0;
  for (int q = 0; q < 4; ++q) {
    const unsigned bits = bits_le(s.template block<true>(j + 16 * q), Floats::all(t));
    hits |= static_cast<std::uint64_t>(bits) << (16 * q);
  }
  return hits;
}

// Rounding is monotone: the least of 4 is rounded in place of 4.
template <bool check, typename T, bool priced>
inline Floats cell_at(const LowerStandIn<T, priced>& s, Index j, NanFlag& nan) {
  Doubles x[8];
  for (int q = 0; q < 8; ++q) x[q] = s.template half<true>(j + 8 * q);
  if constexpr (check) {
    for (int q = 0; q < 8; q += 2) nan.see(x[q], x[q + 1]);
  }
  return Floats::down(min(min(x[0], x[2]), min(x[4], x[6])), min(min(x[1], x[3]), min(x[5], x[7])));
}

template <typename T, bool priced>
inline std::uint64_t hits_at(const LowerStandIn<T, priced>& s, Index j, float, double limit) {
  const Doubles above = Doubles::all(limit);
  std::uint64_t hits = 0;
  for (int q = 0; q < 8; ++q) {
    const unsigned bits = (s.template half<true>(j + 8 * q) < above).bits();
    hits |= static_cast<std::uint64_t>(bits) << (8 * q);
  }
  return hits;
}

// How many of the 64 lanes should be at or below tau at least.
inline int wanted_lanes(Index cols) {
  return cols < kShortListColumns    ? kShortList
         : cols < kMiddleListColumns ? kMiddleList
                                     : kLongList;
}

// A float with at least `wanted` of the 64 lanes at or below it, and few more unless they tie.
inline float at_or_above(const Floats (&lane)[4], int wanted) {
  auto count = [&](float x) {
    const Floats t = Floats::all(x);
    return count_le(lane[0], t) + count_le(lane[1], t) + count_le(lane[2], t) +
           count_le(lane[3], t);
  };
  float low = least(min(min(lane[0], lane[1]), min(lane[2], lane[3])));
  float high = greatest(max(max(lane[0], lane[1]), max(lane[2], lane[3])));
  if (high == kInfF) high = kMaxF;
  if (low == -kInfF) low = -kMaxF;
  if (count(low) >= wanted) return low;
  if (count(next_below(high)) < wanted) return high;  // most lanes tie, as where costs are capped
  // Halves the range of values and the range of representations in turn: the one is quick where
  // values are spread evenly, the other where they span orders of magnitude.
  for (int step = 0; step < 64; ++step) {
    float middle = 0.5f * low + 0.5f * high;
    if (step % 2 == 1) middle = from_order(order_of(low) / 2 + order_of(high) / 2);
    if (!(middle > low && middle < high)) {
      if (step % 2 == 1) continue;
      break;
    }
    const int at_most = count(middle);
    (at_most >= wanted ? high : low) = middle;
    if (at_most >= wanted && at_most <= wanted + wanted / 4) break;
  }
  return high;
}

// 63 for zero.
inline Index lowest_bit(std::uint64_t bits) {
  return static_cast<Index>(__builtin_ctzll(bits | std::uint64_t{1} << 63));
}

// Keeps the 16 cheapest of a list; returns the dearest of them.  Of equals the earlier stay.
inline double shrink(double* value, Index* col, int& size) {
  constexpr int kKept = kListCapacity / 2;
  for (int k = 1; k < size; ++k) {  // insertion into order, 16 deep
    const double x = value[k];
    const Index j = col[k];
    if (k >= kKept && !(x < value[kKept - 1])) continue;
    int at = k < kKept ? k : kKept - 1;
    for (; at > 0 && x < value[at - 1]; --at) {
      value[at] = value[at - 1];
      col[at] = col[at - 1];
    }
    value[at] = x;
    col[at] = j;
  }
  size = kKept;
  return value[kKept - 1];
}

template <bool check, int kRows, typename T, typename StandIn>
inline void fill_cells(const StandIn* s, Index cols, Index whole, const Ahead<T>& ahead,
                       float* cells, NanFlag& nan) {
  const Index count = cells_of(cols);
  Index j = 0;
  for (; j + kCellBlock <= cols; j += kCellBlock) {
    ahead.template fetch<kCellBlock * sizeof(T)>(j);
    for (int r = 0; r < kRows; ++r) {
      cell_at<check>(s[r], j, nan).store(cells + r * count + j / 4);
    }
  }
  if (j >= cols) return;
  for (int r = 0; r < kRows; ++r) {
    Floats cell = Floats::all(kInfF);
    for (Index at = j; at < cols; at += 16) {
      const Floats x = at < whole ? s[r].template block<true>(at) : s[r].template block<false>(at);
      cell = min(cell, x);
      if constexpr (check) nan.see(x, x);
    }
    cell.store(cells + r * count + j / 4);
  }
}

// False if so much lies within the slack that an exact stand-in is cheaper.
template <typename T, typename StandIn>
inline bool collect(const StandIn& s, const Row<T>& row, const float* cells, double magnitude,
                    bool exact_below, Index start, const Ahead<T>& ahead, CandidateRow& out) {
  const Index cols = row.cols(), whole = row.whole(), count = cells_of(cols);
  Floats lane[4];
  for (Floats& x : lane) x = Floats::all(kInfF);
  Index k = 0;
  for (; k + 64 <= count; k += 64) {
    for (int q = 0; q < 4; ++q) lane[q] = min(lane[q], Floats::load(cells + k + 16 * q));
  }
  for (int q = 0; k < count; k += 16, ++q) lane[q] = min(lane[q], Floats::load(cells + k));
  const int wanted = wanted_lanes(cols);
  const float tau = at_or_above(lane, wanted);

  double slack = 0.0;
  if (!exact_below) slack = 1.2e-7 * (magnitude + std::fabs(static_cast<double>(tau))) + 1e-44;
  // The largest stand-in that may belong to a value below the bound.
  auto reach = [&](double bound) {
    const double x = bound + slack;
    const float f = x >= kMaxF ? kMaxF : static_cast<float>(x);
    return exact_below ? f : next_above(f);
  };
  float threshold = tau;
  double bound = static_cast<double>(next_above(tau));
  if (!exact_below) {
    bound = static_cast<double>(tau) + slack;
    threshold = reach(bound);
    if (tau == kMaxF) bound = kInf;
  }

  // Columns first, without a branch on where they fall; a full list is cut to its cheapest.
  constexpr int kRoom = kListCapacity + kCellBlock;
  Index col[kRoom];
  double value[kRoom];
  int size = 0, looks = 0, fetched = 0;
  bool shrunk = false;
  out.valid = true;
  Floats t = Floats::all(threshold);
  double limit = static_cast<double>(next_above(threshold));  // what rounds down to less is below
  // Of a list that is too long, or was once and may hold what is not below the bound.
  auto cut = [&] {
    constexpr int kKept = kListCapacity / 2;
    const int sorted = shrunk ? kKept : 0;
    looks += size - sorted;
    int kept = sorted;
    for (int k = sorted; k < size; ++k) {
      const double x = s.exact(col[k]);
      col[kept] = col[k];
      value[kept] = x;
      kept += !shrunk || x < bound;
    }
    size = kept;
    if (size <= kListCapacity) return;
    bound = shrink(value, col, size);
    shrunk = true;
    threshold = reach(bound);
    if (exact_below && threshold >= bound) threshold = next_below(threshold);
    t = Floats::all(threshold);
    limit = bound;
  };
  auto look_into = [&](Index j) {
    std::uint64_t hits = 0;
    if (j + kCellBlock <= whole) {
      hits = hits_at(s, j, threshold, limit);
    } else {
      for (int q = 0; j + 16 * q < cols; ++q) {
        const Index at = j + 16 * q;
        const Floats x = at < whole ? s.template block<true>(at) : s.template block<false>(at);
        hits |= static_cast<std::uint64_t>(bits_le(x, t)) << (16 * q);
      }
      if (cols - j < 64) hits &= (std::uint64_t{1} << (cols - j)) - 1;  // padding is infinite
    }
    // One or two as a rule, so two are written in any case.
    const int count = __builtin_popcountll(hits);
    for (int k = 0; k < 2 || k < count; ++k) {
      col[size + k] = j + lowest_bit(hits);
      hits &= hits - 1;
    }
    size += count;
    if (size > kListCapacity) cut();
  };
  // Hits are rare and fall anywhere: 64 blocks are compared without a branch, then those that have
  // any are visited.
  const Index from = start / kCellBlock * 16;
  for (const auto& [begin, end] : {std::pair{from, count}, std::pair{Index{0}, from}}) {
    for (Index at = begin; at < end;) {
      constexpr Index kBlocks = 64;
      const Index stop = std::min(end, at + 16 * kBlocks);
      Index visit[kBlocks];
      int visits = 0;
      for (; at < stop; at += 16) {
        visit[visits] = at * 4;
        visits += bits_le(Floats::load(cells + at), t) != 0;
      }
      for (int w = 0; w < visits; ++w) {
        ahead.template fetch_next<256>(fetched);
        fetched += 256;
        look_into(visit[w]);
      }
      if (!exact_below && looks > 8 * kListCapacity) return false;
    }
  }
  if (shrunk) cut();
  // Filled up with column 0 at infinite cost; to a length that most lists have, so that the end of
  // a bid's loop over them comes as expected.
  double cost[kListCapacity];
  out.size = (std::max(size, wanted + wanted / 4) + 7) / 8 * 8;
  for (int k = size; k < out.size; ++k) col[k] = 0;
  for (int k = 0; k < out.size; ++k) cost[k] = static_cast<double>(row[col[k]]);
  for (int k = size; k < out.size; ++k) cost[k] = kInf;
  for (int k = 0; k < out.size; k += 8) {
    Doubles::load(cost + k).store(out.cost + k);
    std::memcpy(out.col + k, col + k, 8 * sizeof(Index));
  }
  out.bound = bound;
  // What float32 does not reach stands in as -infinity, too; what is so itself was collected.
  if (least(min(min(lane[0], lane[1]), min(lane[2], lane[3]))) == -kInfF) {
    for (int k = 0; k < size; ++k) out.valid &= cost[k] > -kInf;
  }
  return true;
}

template <typename T, int kRows>
void candidates_of(const RowGroup<T>& group, Index cols, CostBits<T> bits, PriceView prices,
                   float* cells, CandidateRow* out) {
  Row<T> row[kRows];
  for (int r = 0; r < kRows; ++r) row[r] = Row<T>(group.row[r], cols, bits);
  auto ahead = [&](int r) { return Ahead<T>(group.row[r], cols, group.ahead[r]); };
  const Index whole = row[0].whole(), count = cells_of(cols);
  // Rows start at different columns: those that tie everywhere then list different ones.
  const Index blocks = std::max(cols / kCellBlock, Index{1});
  auto start = [&](int r) { return group.index[r] % blocks * kCellBlock; };
  NanFlag nan;
  if (prices.v == nullptr) {
    auto scan = [&](auto stand_in) {
      decltype(stand_in(row[0])) s[kRows];
      for (int r = 0; r < kRows; ++r) s[r] = stand_in(row[r]);
      fill_cells<true, kRows>(s, cols, whole, ahead(0), cells, nan);
      const bool valid = !nan.any();
      for (int r = 0; r < kRows; ++r) {
        collect(s[r], row[r], cells + r * count, 0.0, true, start(r), ahead(r), out[r]);
        out[r].valid &= valid;
      }
    };
    if constexpr (sizeof(T) == 4) {
      scan([](const Row<T>& at) { return PlainStandIn{&at}; });
    } else {
      scan([](const Row<T>& at) { return LowerStandIn<T, false>{&at, nullptr}; });
    }
    return;
  }
  bool done[kRows] = {};
  if constexpr (sizeof(T) == 4) {
    if (prices.magnitude < 1e30) {
      RoundedStandIn s[kRows];
      for (int r = 0; r < kRows; ++r) s[r] = {&row[r], prices.rounded, prices.v};
      fill_cells<false, kRows>(s, cols, whole, ahead(0), cells, nan);
      for (int r = 0; r < kRows; ++r) {
        done[r] = collect(s[r], row[r], cells + r * count, prices.magnitude, false, start(r),
                          ahead(r), out[r]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    if (done[r]) continue;
    const LowerStandIn<T, true> s{&row[r], prices.v};
    fill_cells<false, 1>(&s, cols, whole, ahead(r), cells, nan);
    collect(s, row[r], cells, 0.0, true, start(r), ahead(r), out[r]);
  }
}

template <typename T>
void candidates(const RowGroup<T>& group, Index cols, CostBits<T> bits, PriceView prices,
                double* cells, CandidateRow* out) {
  float* const room = reinterpret_cast<float*>(cells);
  if constexpr (kSideBySide == kGroup) {
    if (group.count == kGroup) {
      candidates_of<T, kGroup>(group, cols, bits, prices, room, out);
      return;
    }
  }
  for (int r = 0; r < group.count; ++r) {
    const RowGroup<T> one{1, {group.row[r]}, {group.index[r]}, {after(group, r + 1)}};
    candidates_of<T, 1>(one, cols, bits, prices, room, out + r);
  }
}

// Best two of a list at present prices, and the first column that has the best.
ListBest list_best(const double* cost, const Index* col, int size, const double* v) {
  auto at = [&](int k) { return Doubles::load(cost + k) - Doubles::gather(v, col + k); };
  double kept[kListCapacity];
  const bool keeps = size <= kListCapacity;
  Doubles best = Doubles::all(kInf), second = best;
  for (int k = 0; k < size; k += 8) {
    const Doubles x = at(k);
    if (keeps) x.store(kept + k);
    second = min(second, max(best, x));
    best = min(best, x);
  }
  const TwoLeast two = least_two(best, second);
  if (two.first == kInf) return {kInf, kInf, kNone};
  const Doubles wanted = Doubles::all(two.first);
  int first = 0;
  if (keeps) {  // without a branch on where it is
    std::uint32_t hits = 0;
    for (int k = 0; k < size; k += 8) hits |= (Doubles::load(kept + k) == wanted).bits() << k;
    first = __builtin_ctz(hits);
  } else {
    while (!(at(first) == wanted).any()) first += 8;
    first += __builtin_ctz((at(first) == wanted).bits());
  }
  return {two.first, two.second, col[first]};
}

// Which columns of a list a path to its row, `base` long, reaches sooner than any did before.
std::uint32_t nearer(const double* cost, const Index* col, int size, double base, const double* v,
                     const double* distance, double limit) {
  const Doubles from = Doubles::all(base), most = Doubles::all(limit);
  std::uint32_t hits = 0;
  for (int k = 0; k < size; k += 8) {
    const Doubles through = from + (Doubles::load(cost + k) - Doubles::gather(v, col + k));
    hits |= (through < min(Doubles::gather(distance, col + k), most)).bits() << k;
  }
  return hits;
}
