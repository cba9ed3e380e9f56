// The kernels of row_kernels.h over the vectors of one instruction set.  Included, after its
// simd_*.h, into an unnamed namespace of the file that is compiled for that set.
#pragma once

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr float kInfF = std::numeric_limits<float>::infinity();
constexpr float kMaxF = std::numeric_limits<float>::max();

// Neighbours among the floats, -infinity and infinity included.
inline float next_above(float x) {
  std::int32_t bits;
  std::memcpy(&bits, &x, 4);
  if (x == kInfF) return x;
  bits = x == 0.0f ? 1 : bits + (bits < 0 ? -1 : 1);
  std::memcpy(&x, &bits, 4);
  return x;
}

// A row in memory: full blocks are loaded from where they lie, the last one from a copy that is
// filled up with infinite costs.
template <typename T>
class Row {
 public:
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
  const T* data() const { return row_; }

  template <typename V>
  V direct(Index j) const { return V::load(row_ + j, bits_); }
  template <typename V>
  V copied(Index j) const { return V::load(tail_ + (j - whole_), CostBits<T>()); }

 private:
  const T* row_;
  Index cols_, whole_;
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

// Bytes read ahead of the sweep: far enough for memory, near enough to stay in the first level.
constexpr int kAhead = 8192;

template <typename T>
inline void prefetch64(const T* p) {
  for (std::size_t byte = 0; byte < 64 * sizeof(T); byte += 64) {
    __builtin_prefetch(reinterpret_cast<const char*>(p) + kAhead + byte);
  }
}

// ---- Two smallest costs at price zero ----------------------------------------------------
//
// Minima are kept in 64 lanes, lane l for the columns l, l + 64, ...  Only the lane that holds
// the smallest is searched again, for its column and for the second smallest.

template <typename T>
RowMinima minima(const T* costs, Index cols, CostBits<T> bits) {
  using V = std::conditional_t<sizeof(T) == 4, Floats, Doubles>;
  constexpr int kL = V::kLanes, kR = 64 / kL;
  constexpr T inf = std::numeric_limits<T>::infinity();
  const Row<T> row(costs, cols, bits);
  V lane[kR];
  for (V& x : lane) x = V::all(inf);
  NanFlag nan;
  Index j = 0;
  for (; j + 64 <= cols; j += 64) {
    prefetch64(costs + j);
    V x[kR];
    for (int r = 0; r < kR; ++r) x[r] = row.template direct<V>(j + r * kL);
    for (int r = 0; r < kR; ++r) lane[r] = min(lane[r], x[r]);
    for (int r = 0; r < kR; r += 2) nan.see(x[r], x[r + 1]);
  }
  for (int r = 0; j < cols; j += kL, ++r) {
    const V x = j < row.whole() ? row.template direct<V>(j) : row.template copied<V>(j);
    lane[r] = min(lane[r], x);
    nan.see(x, x);
  }
  RowMinima out;
  V all = lane[0];
  for (int r = 1; r < kR; ++r) all = min(all, lane[r]);
  const T best = least(all);
  out.best = static_cast<double>(best);
  out.valid = !nan.any() && best > -inf;
  if (!out.valid || best == inf) return out;

  T lanes[64];
  for (int r = 0; r < kR; ++r) lane[r].store(lanes + r * kL);
  T second = inf;
  int holder = kNone;
  Index col = cols;
  for (int l = 0; l < 64; ++l) {
    if (lanes[l] != best) {
      second = lanes[l] < second ? lanes[l] : second;
      continue;
    }
    if (holder != kNone) second = best;
    holder = l;
    for (Index k = l; k < col; k += 64) {
      if (row[k] == best) {
        col = k;
        break;
      }
    }
  }
  if (second != best) {  // a single lane holds the smallest
    for (Index k = holder; k < cols; k += 64) {
      const T x = row[k];
      if (k != col && x < second) second = x;
    }
  }
  out.col = col;
  out.second = static_cast<double>(second);
  return out;
}

// ---- Candidate lists --------------------------------------------------------------------
//
// Sweep 1 takes minima in 64 lanes; tau is a value with at least 16 of them at or below it,
// hardly more.  Sweep 2, the row now in the first level of the cache, collects what is at or below
// tau, about 18 columns.  If more than the capacity come, the 16 cheapest are kept.
//
// Both sweeps work in float32 on a stand-in s_j for the exact value x_j = c_j - v_j in float64:
//   - s_j rounded toward minus infinity from x_j.  Then s_j > tau implies x_j >= the float
//     above tau, which is the bound.
//   - For float32 costs, c_j - v_j in float32, wrong by less than
//     delta = 1.2e-7 (max |v| + |tau|) where s_j is near tau, and by no more, relatively, beyond.
//     Collected is s_j <= tau + 2 delta, the bound is tau + delta.
// What is collected is compared in float64, so that bounds made by shrinking are exact.

struct PlainStandIn {  // exact: float32 costs, price zero
  const Row<float>& row;
  template <bool direct>
  Floats block(Index j) const {
    return direct ? row.direct<Floats>(j) : row.copied<Floats>(j);
  }
  double exact(Index j) const { return row[j]; }
};

struct RoundedStandIn {  // float32 costs less float32 prices
  const Row<float>& row;
  const float* rounded;
  const double* v;
  template <bool direct>
  Floats block(Index j) const {
    return (direct ? row.direct<Floats>(j) : row.copied<Floats>(j)) - Floats::load(rounded + j);
  }
  double exact(Index j) const { return static_cast<double>(row[j]) - v[j]; }
};

template <typename T, bool priced>
struct LowerStandIn {  // float64 values rounded toward minus infinity
  const Row<T>& row;
  const double* v;
  template <bool direct>
  Floats block(Index j) const {
    Doubles low = direct ? row.template direct<Doubles>(j) : row.template copied<Doubles>(j);
    Doubles high =
        direct ? row.template direct<Doubles>(j + 8) : row.template copied<Doubles>(j + 8);
    if constexpr (priced) {
      low = low - Doubles::load(v + j);
      high = high - Doubles::load(v + j + 8);
    }
    return Floats::down(low, high);
  }
  double exact(Index j) const {
    return priced ? static_cast<double>(row[j]) - v[j] : static_cast<double>(row[j]);
  }
};

// Floats as integers in the same order, and back.
inline std::int32_t order_of(float x) {
  std::int32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits < 0 ? static_cast<std::int32_t>(0x80000000u) - bits : bits;
}

inline float from_order(std::int32_t order) {
  const std::int32_t bits = order < 0 ? static_cast<std::int32_t>(0x80000000u) - order : order;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

// A float with at least 16 of the 64 lanes at or below it, and 20 at most unless they tie.
inline float sixteenth(const Floats (&lane)[4]) {
  float low = least(min(min(lane[0], lane[1]), min(lane[2], lane[3])));
  float high = greatest(max(max(lane[0], lane[1]), max(lane[2], lane[3])));
  if (high == kInfF) high = kMaxF;
  if (low == -kInfF) low = -kMaxF;
  // Halves the range of values and the range of representations in turn: the one is quick where
  // values are spread evenly, the other where they span orders of magnitude.
  for (int step = 0; step < 64; ++step) {
    float middle = 0.5f * low + 0.5f * high;
    if (step % 2 == 1) middle = from_order(order_of(low) / 2 + order_of(high) / 2);
    if (!(middle > low && middle < high)) {
      if (step % 2 == 1) continue;
      break;
    }
    const Floats t = Floats::all(middle);
    const int count =
        count_le(lane[0], t) + count_le(lane[1], t) + count_le(lane[2], t) + count_le(lane[3], t);
    (count >= 16 ? high : low) = middle;
    if (count >= 16 && count <= 20) break;
  }
  return high;
}

// Keeps the 16 cheapest of a full list; returns the dearest of them.  Of equals the earlier stay.
inline double shrink(double* value, double* cost, Index* col, int& size) {
  constexpr int kKept = kListCapacity / 2;
  for (int k = 1; k < size; ++k) {  // insertion into order, 16 deep
    const double x = value[k], c = cost[k];
    const Index j = col[k];
    int at = k < kKept ? k : kKept;
    if (k >= kKept && !(x < value[kKept - 1])) continue;
    if (at == kKept) at = kKept - 1;
    for (; at > 0 && x < value[at - 1]; --at) {
      value[at] = value[at - 1];
      cost[at] = cost[at - 1];
      col[at] = col[at - 1];
    }
    value[at] = x;
    cost[at] = c;
    col[at] = j;
  }
  size = kKept;
  return value[kKept - 1];
}

// False if so much lies within the slack that an exact stand-in is cheaper.
template <bool check, typename T, typename StandIn>
inline bool collect(const StandIn& s, const Row<T>& row, double magnitude, bool exact_below,
                    Index start, CandidateRow& out) {
  const Index cols = row.cols(), whole = row.whole();
  Floats lane[4];
  for (Floats& x : lane) x = Floats::all(kInfF);
  NanFlag nan;
  Index j = 0;
  for (; j + 64 <= cols; j += 64) {
    prefetch64(row.data() + j);
    Floats x[4];
    for (int r = 0; r < 4; ++r) x[r] = s.template block<true>(j + 16 * r);
    for (int r = 0; r < 4; ++r) lane[r] = min(lane[r], x[r]);
    if constexpr (check) {
      nan.see(x[0], x[1]);
      nan.see(x[2], x[3]);
    }
  }
  for (int r = 0; j < cols; j += 16, ++r) {
    const Floats x = j < whole ? s.template block<true>(j) : s.template block<false>(j);
    lane[r] = min(lane[r], x);
    if constexpr (check) nan.see(x, x);
  }
  const float tau = sixteenth(lane);

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

  double value[kListCapacity];
  int size = 0, looks = 0;
  bool shrunk = false;
  Floats t = Floats::all(threshold);
  auto take = [&](Index at, std::uint64_t hits) {
    while (hits != 0) {
      const Index col = at + static_cast<Index>(__builtin_ctzll(hits));
      hits &= hits - 1;
      if (col >= cols) return;
      ++looks;
      const double x = s.exact(col);
      if (shrunk && !(x < bound)) continue;
      if (size == kListCapacity) {
        bound = shrink(value, out.cost, out.col, size);
        shrunk = true;
        threshold = reach(bound);
        t = Floats::all(threshold);
        if (!(x < bound)) continue;
      }
      value[size] = x;
      out.cost[size] = static_cast<double>(row[col]);
      out.col[size++] = col;
    }
  };
  // Hits are rare and fall anywhere: 16 words of 64 columns are compared without a branch, then
  // the words that have any are visited.
  for (const auto& [from, to] : {std::pair{start, cols}, std::pair{Index{0}, start}}) {
    Index at = from;
    const Index end = to < whole ? to : whole;
    while (at + 64 <= end) {
      constexpr int kWords = 16;
      const int words = end - at >= 64 * kWords ? kWords : static_cast<int>((end - at) / 64);
      std::uint64_t hits[kWords];
      int visit[kWords], visits = 0;
      for (int w = 0; w < words; ++w) {
        std::uint64_t word = 0;
        for (int r = 0; r < 4; ++r) {
          const Index j = at + 64 * w + 16 * r;
          word |= static_cast<std::uint64_t>(bits_le(s.template block<true>(j), t)) << (16 * r);
        }
        hits[w] = word;
        visit[visits] = w;
        visits += word != 0;
      }
      for (int k = 0; k < visits; ++k) take(at + 64 * visit[k], hits[visit[k]]);
      if (!exact_below && looks > 8 * kListCapacity) return false;
      at += 64 * words;
    }
    for (; at < to; at += 16) {
      const Floats x = at < whole ? s.template block<true>(at) : s.template block<false>(at);
      take(at, bits_le(x, t));
    }
  }
  out.size = size;
  out.bound = bound;
  while (size % 8 != 0) {
    out.cost[size] = kInf;
    out.col[size++] = 0;
  }
  if constexpr (check) {
    out.valid = !nan.any();
    for (int k = 0; k < size; ++k) out.valid &= out.cost[k] > -kInf;
  }
  return true;
}

template <typename T>
void candidates(const T* costs, Index cols, CostBits<T> bits, PriceView prices, Index start,
                CandidateRow& out) {
  const Row<T> row(costs, cols, bits);
  if (prices.v == nullptr) {
    if constexpr (sizeof(T) == 4) {
      collect<true>(PlainStandIn{row}, row, 0.0, true, start, out);
    } else {
      collect<true>(LowerStandIn<T, false>{row, nullptr}, row, 0.0, true, start, out);
    }
    return;
  }
  if constexpr (sizeof(T) == 4) {
    if (prices.magnitude < 1e30) {
      const RoundedStandIn rounded{row, prices.rounded, prices.v};
      if (collect<false>(rounded, row, prices.magnitude, false, start, out)) return;
    }
  }
  collect<false>(LowerStandIn<T, true>{row, prices.v}, row, 0.0, true, start, out);
}

// ---- Dense sweeps in float64 --------------------------------------------------------------

template <typename T>
BestTwo best_two(const T* costs, Index cols, CostBits<T> bits, const double* v,
                 const std::uint8_t* free) {
  const Row<T> row(costs, cols, bits);
  const Doubles inf = Doubles::all(kInf), eight = Doubles::all(8.0);
  Doubles best = inf, second = inf, col = inf, best_free = inf, free_col = inf;
  Doubles at = Doubles::iota();
  NanFlag nan;
  for_blocks<Doubles>(row, [&](Index j, Doubles c) {
    const Doubles x = c - Doubles::load(v + j);
    nan.see(c, c);
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
  out.valid = !nan.any() && out.best > -kInf;
  if (out.best == kInf || !out.valid) return out;
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
    if (free[j / 8] != 0) {
      unsigned hits = keep.bits() & free[j / 8];
      if (hits != 0) {
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
    }
    d = select(keep, through, d);
    d.store(distance + j);
    store_where(predecessor + j, keep, i);
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
bool widen(const T* costs, Index cols, CostBits<T> bits, double* out) {
  const Row<T> row(costs, cols, bits);
  NanFlag nan;
  Doubles smallest = Doubles::all(kInf);
  for_blocks<Doubles>(row, [&](Index j, Doubles c) {
    c.store(out + j);
    nan.see(c, c);
    smallest = min(smallest, c);
  });
  for (Index j = (cols + 7) / 8 * 8; j < padded(cols); ++j) out[j] = kInf;
  return !nan.any() && least(smallest) > -kInf;
}

// ---- Lists --------------------------------------------------------------------------------

ListBest list_best(const double* cost, const Index* col, int size, const double* v) {
  const Doubles inf = Doubles::all(kInf), eight = Doubles::all(8.0);
  Doubles best = inf, second = inf, where = inf, at = Doubles::iota();
  for (int k = 0; k < size; k += 8) {
    const Doubles x = Doubles::load(cost + k) - Doubles::gather(v, col + k);
    where = select(x < best, at, where);
    second = min(second, max(best, x));
    best = min(best, x);
    at = at + eight;
  }
  const double first = least(best);
  if (first == kInf) return {kInf, kInf, kNone};
  const int lane = __builtin_ctz((best == Doubles::all(first)).bits());
  double lanes[8];
  where.store(lanes);
  const Mask8 holder = Mask8::of(static_cast<std::uint8_t>(1u << lane));
  return {first, least(select(holder, second, best)), col[static_cast<int>(lanes[lane])]};
}

template <typename T>
constexpr RowScans<T> row_scans() {
  return {minima<T>, candidates<T>, best_two<T>, relax<T>, lower<T>, widen<T>};
}
