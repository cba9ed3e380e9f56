// The stages of small.h.  Included after row_kernels_inl.h, into the same unnamed namespace.
//
// At a few dozen columns a sweep costs less than a call, so nothing here is called: rows are read
// in whole blocks, and every sweep is inlined.  Whatever stands behind the last column, its price
// of -infinity makes the reduced cost infinite.
#pragma once

template <typename T, bool stored>
class SmallSolver {
 public:
  SmallSolver(SmallProblem& p, const SmallRows<T, stored>& rows) : p_(p), rows_(rows) {}

  // Rows claim a free column among their minima, but those that have no one minimum to lose wait.
  void claim() {
    open_columns();
    for (Index i = 0; i < p_.rows; ++i) claim(i);
  }

  void open_columns() {
    for (Index j = 0; j < p_.stride; ++j) {
      p_.price[j] = j < p_.cols ? 0.0 : -kInf;
    }
    for (Index j = 0; j < p_.stride; j += 8) {
      const Index left = p_.cols - j;
      p_.free[j / 8] = static_cast<std::uint8_t>(left >= 8 ? 0xff : (1 << left) - 1);
    }
    for (Index j = 0; j < p_.cols; ++j) p_.row_of_col[j] = kNone;
    p_.free_count = p_.waiting = p_.flat = 0;
  }

  void claim(Index i) {
    const double u = p_.minimum[i];
    if (p_.may_pause && u < kInf) {
      const T* const c = row(i);
      const auto [equal, seen] =
          equal_in_sample(p_.cols, u, [this, c](Index j) { return load(c + j); });
      if (!is_below(equal, seen, kPlateau)) {
        p_.col_of_row[i] = kNone;
        p_.free_rows[p_.rows - ++p_.waiting] = i;
        p_.flat += equal == seen;
        return;
      }
    }
    claim_or_keep(i, u);
  }

  Step start() {
    if (is_above(p_.waiting, p_.rows, kNearlyAll)) {  // where all wait, none need
      claim_waiting([this](Index i) { return p_.minimum[i]; });
    }
    if (p_.free_count + p_.waiting > 0 && p_.rows == p_.cols && !few_costs_are_near()) {
      reduce_columns();
    }
    const Share most = p_.rows == p_.cols ? kNearlyAll : kMostFreeOfWide;
    p_.crowded = p_.may_hand_on && is_above(p_.free_count, p_.rows, most);
    if (p_.crowded) return Step::budget_spent;
    if (p_.free_count > 0) reduce_rows();
    const Step step = begin_paths();
    if (step != Step::done || p_.waiting == 0) return step;
    claim_waiting([this](Index i) { return minimum(row(i)); });
    return begin_paths();
  }

  Step resume() {
    std::fill_n(p_.free, p_.stride / 8, std::uint8_t{0});
    for (Index j = 0; j < p_.cols; ++j) {
      if (p_.row_of_col[j] == kNone) p_.free[j / 8] |= static_cast<std::uint8_t>(1 << j % 8);
    }
    p_.free_count = p_.waiting = 0;
    for (Index i = 0; i < p_.rows; ++i) {
      if (p_.col_of_row[i] == kNone) p_.free_rows[p_.free_count++] = i;
    }
    return augment_all();
  }

  void row_duals(double* out) const {
    for (Index i = 0; i < p_.rows; ++i) {
      const Index j = p_.col_of_row[i];
      out[i] = j == kNone ? minimum(row(i)) : cost(row(i) + j) - p_.price[j];
    }
  }

  // In place of the prices, the least ones that prove the matching; false if sweeps over all rows
  // do not come to them, or columns that nobody has were given prices.
  bool least_prices() {
    double* const v = p_.distance;
    for (Index j = 0; j < p_.stride; ++j) v[j] = j < p_.cols ? 0.0 : -kInf;
    bool fell = true;
    for (int sweep = 0; fell && sweep < kLeastPricesSweeps; ++sweep) {
      fell = false;
      for (Index i = 0; i < p_.rows; ++i) {
        const T* const c = row(i);
        const Index own = p_.col_of_row[i];
        const double x = cost(c + own) - v[own];
        const Doubles wanted = Doubles::all(x);
        Mask8 any = Mask8::of(0);
        for (Index j = 0; j < p_.stride; j += 8) {
          const Doubles at = load(c + j), price = Doubles::load(v + j), lower = at - wanted;
          const Mask8 falls = (at - price < wanted) & (lower < price);
          select(falls, lower, price).store(v + j);
          any = any | falls;
        }
        fell |= any.any();
      }
    }
    for (Index j = 0; j < p_.cols; ++j) fell |= p_.row_of_col[j] == kNone && v[j] < 0.0;
    if (!fell) std::copy_n(v, p_.stride, p_.price);
    return !fell;
  }

 private:
  const T* row(Index i) const { return rows_.row(i, p_.rows); }
  Doubles load(const T* costs) const {
    if constexpr (stored)
      return Doubles::load(costs, rows_.bits);
    else
      return Doubles::load(costs);
  }
  double cost(const T* costs) const {
    if constexpr (stored)
      return rows_.bits(*costs);
    else
      return *costs;
  }
  void match(Index i, Index j) {
    p_.col_of_row[i] = j;
    p_.row_of_col[j] = i;
    p_.free[j / 8] &= static_cast<std::uint8_t>(~(1 << j % 8));
  }

  // The lowest column of those whose bits holds(j) gives for 8 columns from j on; there is one.
  template <typename F>
  Index lowest_column(F holds) const {
    for (Index start = 0;; start += 64) {
      std::uint64_t hits = 0;
      for (Index j = start; j < std::min(start + 64, p_.stride); j += 8) {
        hits |= std::uint64_t{holds(j)} << (j - start);
      }
      if (hits != 0) return start + static_cast<Index>(__builtin_ctzll(hits));
    }
  }

  // The lowest free column with c_j - v_j == value, or kNone.
  Index free_column(const T* c, double value) const {
    const Doubles wanted = Doubles::all(value);
    for (Index j = 0; j < p_.stride; j += 8) {
      if (p_.free[j / 8] == 0) continue;
      const Doubles x = load(c + j) - Doubles::load(p_.price + j);
      const unsigned hits = ((x == wanted) & Mask8::of(p_.free[j / 8])).bits();
      if (hits != 0) return j + static_cast<Index>(__builtin_ctz(hits));
    }
    return kNone;
  }

  double minimum(const T* c) const {
    Doubles best = Doubles::all(kInf);
    for (Index j = 0; j < p_.stride; j += 8) {
      best = min(best, load(c + j) - Doubles::load(p_.price + j));
    }
    return least(best);
  }

  void claim_or_keep(Index i, double u) {
    const Index j = u < kInf ? free_column(row(i), u) : kNone;
    if (j != kNone) {
      match(i, j);
    } else {
      p_.col_of_row[i] = kNone;
      p_.free_rows[p_.free_count++] = i;
    }
  }

  // The rows that waited stand at the end, in descending order.
  template <typename F>
  void claim_waiting(F minimum_of) {
    const Index first = p_.rows - p_.waiting;
    std::reverse(p_.free_rows + first, p_.free_rows + p_.rows);
    p_.waiting = 0;
    for (Index k = first; k < p_.rows; ++k) {
      const Index i = p_.free_rows[k];
      claim_or_keep(i, minimum_of(i));
    }
  }

  // Whether most free rows have but a few costs nearer to their least than to their mean.  Beyond
  // those they pay much the same everywhere, and the minima of all free columns stand in the few
  // rows that lose least: prices made of them are in the way of bids.
  bool few_costs_are_near() const {
    if (!p_.may_pause) return false;
    const Index sampled = std::min(p_.free_count, kNearRows);
    Index few = 0;
    for (Index k = 0; k < sampled; ++k) {
      few += near_costs(p_.free_rows[k * p_.free_count / sampled]) <= kFewNear;
    }
    return is_above(few, sampled, kMostHaveFew);
  }

  Index near_costs(Index i) const {
    const T* const c = row(i);
    const Index step = (p_.cols + kMeanOf - 1) / kMeanOf;
    double sum = 0.0;
    Index seen = 0, near = 0;
    for (Index j = 0; j < p_.cols; j += step, ++seen) sum += cost(c + j);
    const double middle = p_.minimum[i] + (sum / seen - p_.minimum[i]) / 2.0;
    for (Index j = 0; j < p_.cols; ++j) near += cost(c + j) < middle;
    return near;
  }

  // Free columns get prices; or all do, and rows choose anew, where many are free and columns' own
  // minima come to a greater sum than those of rows and then of columns.
  void reduce_columns() {
    const bool may_begin_anew = is_above(p_.free_count, p_.rows, kColumnsAlone);
    double of_rows = 0.0, of_columns = 0.0;
    if (may_begin_anew) of_rows = std::accumulate(p_.minimum, p_.minimum + p_.rows, 0.0);
    for (Index j = 0; j < p_.stride; j += 8) {
      if (p_.free[j / 8] == 0 && !may_begin_anew) continue;
      Doubles lowest = Doubles::all(kInf), own = lowest;
      for (Index i = 0; i < p_.rows; ++i) {
        const Doubles c = load(row(i) + j);
        // A row without a finite cost gives NaN, which a minimum passes over as its first operand.
        lowest = min(c - Doubles::all(p_.minimum[i]), lowest);
        if (may_begin_anew) own = min(c, own);
      }
      const Mask8 changed = Mask8::of(p_.free[j / 8]) & (lowest < Doubles::all(kInf));
      select(changed, lowest, Doubles::load(p_.price + j)).store(p_.price + j);
      if (may_begin_anew) own.store(p_.distance + j);
    }
    if (may_begin_anew) {
      for (Index j = 0; j < p_.cols; ++j) {
        of_rows += p_.price[j];
        of_columns += p_.distance[j];
      }
    }
    if (of_columns > of_rows && of_columns < kInf) return begin_at_columns();
    const Index before = std::exchange(p_.free_count, 0);
    for (Index k = 0; k < before; ++k) {
      const Index i = p_.free_rows[k];
      claim_or_keep(i, minimum(row(i)));
    }
  }

  // At the columns' minima, which stand in `distance`.
  void begin_at_columns() {
    open_columns();
    std::copy_n(p_.distance, p_.cols, p_.price);
    for (Index i = 0; i < p_.rows; ++i) claim_or_keep(i, minimum(row(i)));
  }

  void reduce_rows() {
    const Index stride = p_.stride;
    double* const price_of = p_.price;
    const Index each = p_.rows >= kMoreBidsRows ? kMoreSmallBids : kSmallBids;
    Index free = p_.free_count, bids = each * free, before = free;
    for (int round = 0; round < kReductionRounds && free > 0; ++round) {
      // The list is read from the front and what is left is written behind the reader; a displaced
      // row bids at once, in the place of the one that displaced it.
      Index kept = 0;
      for (Index k = 0; k < free;) {
        const Index i = p_.free_rows[k];
        if (bids == 0) {  // more, as long as they leave fewer rows free
          const Index left = kept + free - k;
          if (is_below(left, before, kStillFalling)) bids = before = left;
        }
        if (bids-- <= 0) {
          p_.free_rows[kept++] = i;
          ++k;
          continue;
        }
        ++p_.bids;
        const T* const c = row(i);
        Doubles best = Doubles::all(kInf), second = best;
        for (Index j = 0; j < stride; j += 8) {
          const Doubles x = load(c + j) - Doubles::load(price_of + j);
          second = min(second, max(best, x));
          best = min(x, best);
        }
        const auto [first, next] = least_two(best, second);
        if (first == kInf) {
          p_.free_rows[kept++] = i;
          ++k;
          continue;
        }
        const Doubles wanted = Doubles::all(first);
        Index j = lowest_column([&](Index at) {
          return (load(c + at) - Doubles::load(price_of + at) == wanted).bits();
        });
        if (next == first) {
          const Index tied = free_column(c, first);
          if (tied != kNone) j = tied;
        }
        const Index displaced = p_.row_of_col[j];
        // A row with a single finite cost bids no more than what makes it tight.
        const double price = price_of[j] - ((next < kInf ? next : first) - first);
        const bool fell = price < price_of[j];
        if (displaced != kNone && !fell) {
          p_.free_rows[kept++] = i;
          ++k;
          continue;
        }
        if (displaced != kNone || fell) price_of[j] = price;
        match(i, j);
        if (displaced != kNone) {
          p_.col_of_row[displaced] = kNone;
          p_.free_rows[k] = displaced;
        } else {
          ++k;
        }
      }
      free = kept;
    }
    p_.free_count = free;
  }

  Step begin_paths() {
    const bool turns = p_.may_pause && p_.free_count > 0 && columns_tie_less();
    return turns ? Step::budget_spent : augment_all(p_.may_pause);
  }

  // Whether free rows are at their least costs in much of the columns, and free columns in few of
  // the rows: paths that begin there need not go through what ties.
  bool columns_tie_less() const {
    Index wide = 0;
    const Index rows = std::min(p_.free_count, kNearRows);
    for (Index k = 0; k < rows; ++k) {
      const T* const c = row(p_.free_rows[std::int64_t{k} * p_.free_count / rows]);
      wide += !is_below(ties(c, minimum(c)), p_.cols, kPlateau);
    }
    if (!is_above(wide, rows, kMostHaveFew)) return false;
    Index columns = 0, narrow = 0;
    for (Index j = 0; j < p_.cols && columns < kNearRows; ++j) {
      if (!is_free(j)) continue;
      ++columns;
      narrow += is_below(tight_rows(j), p_.rows, kNarrow);
    }
    return is_above(narrow, columns, kMostHaveFew);
  }

  Index ties(const T* c, double value) const {
    const Doubles wanted = Doubles::all(value);
    Index count = 0;
    for (Index j = 0; j < p_.stride; j += 8) {
      count += __builtin_popcount((load(c + j) - Doubles::load(p_.price + j) == wanted).bits());
    }
    return count;
  }

  Index tight_rows(Index j) const {
    Index count = 0;
    for (Index i = 0; i < p_.rows; ++i) {
      const Index own = p_.col_of_row[i];
      if (own == kNone) continue;
      const T* const c = row(i);
      count += cost(c + j) - p_.price[j] <= cost(c + own) - p_.price[own];
    }
    return count;
  }

  // Paths for free rows, until so many rows were read; at the start, or until few of these paths
  // have read as many rows as there are.
  Step augment_all(bool starts = false) {
    for (Index k = 0; k < p_.free_count; ++k) {
      if (p_.reads >= p_.most_reads) return Step::budget_spent;
      if (starts && p_.reads > kEarlyReads * p_.rows && is_below(k, p_.free_count, kFewDone)) {
        return Step::budget_spent;
      }
      if (!augment(p_.free_rows[k])) return Step::infeasible;
    }
    p_.free_count = 0;
    return Step::done;
  }

  bool augment(Index free_row) {
    // Local copies: through vector stores the compiler must suppose that a member changes.
    const Index stride = p_.stride;
    double* const price_of = p_.price;
    double* const distance_of = p_.distance;
    Index* const predecessor = p_.predecessor;
    const T* c = row(free_row);
    Doubles open = Doubles::all(kInf);
    for (Index j = 0; j < stride; j += 8) {
      const Doubles d = load(c + j) - Doubles::load(price_of + j);
      d.store(distance_of + j);
      open = min(d, open);
    }
    std::fill_n(predecessor, stride, free_row);
    Index settled = 0, end = kNone;
    double distance;
    while ((distance = least(open)) < kInf) {
      const Index at = nearest(distance);
      if (is_free(at)) {
        end = at;
        break;
      }
      const Index row_at = p_.row_of_col[at];
      c = row(row_at);
      const Doubles from = Doubles::all(distance - (cost(c + at) - price_of[at]));
      p_.settled[settled++] = {at, distance, price_of[at]};
      price_of[at] = -kInf;  // so that no way is shorter that leads there again
      distance_of[at] = kInf;
      open = Doubles::all(kInf);
      for (Index j = 0; j < stride; j += 8) {
        const Doubles through = from + (load(c + j) - Doubles::load(price_of + j));
        const Doubles d = Doubles::load(distance_of + j);
        store_where(predecessor + j, through < d, row_at);
        const Doubles shorter = min(through, d);
        shorter.store(distance_of + j);
        open = min(shorter, open);
      }
    }
    p_.reads += settled + 1;
    for (Index k = 0; k < settled; ++k) {  // rounding can make the path end before what it passed
      const SmallProblem::Settled& s = p_.settled[k];
      const double fall = s.distance - distance;
      price_of[s.col] = s.price + (fall < 0.0 && end != kNone ? fall : 0.0);
    }
    if (end == kNone) {
      p_.trapped_from = free_row;
      p_.settled_count = settled;
      return false;
    }
    p_.free[end / 8] &= static_cast<std::uint8_t>(~(1 << end % 8));
    for (Index j = end, i = kNone; i != free_row;) {
      i = predecessor[j];
      p_.row_of_col[j] = i;
      const Index next = p_.col_of_row[i];
      p_.col_of_row[i] = j;
      j = next;
    }
    ++p_.augmentations;
    return true;
  }

  // The lowest free column at this distance, or if none is free the lowest.
  Index nearest(double distance) const {
    const Doubles wanted = Doubles::all(distance);
    Index lowest = kNone;
    for (Index start = 0; start < p_.stride; start += 64) {
      std::uint64_t hits = 0, ends;
      for (Index j = start; j < std::min(start + 64, p_.stride); j += 8) {
        hits |= std::uint64_t{(Doubles::load(p_.distance + j) == wanted).bits()} << (j - start);
      }
      if (hits == 0) continue;
      std::memcpy(&ends, p_.free + start / 8, sizeof ends);
      if ((ends &= hits) != 0) return start + static_cast<Index>(__builtin_ctzll(ends));
      if (lowest == kNone) lowest = start + static_cast<Index>(__builtin_ctzll(hits));
    }
    return lowest;
  }

  bool is_free(Index j) const { return (p_.free[j / 8] >> j % 8 & 1) != 0; }

  SmallProblem& p_;
  const SmallRows<T, stored> rows_;
};

// f of a solver.
template <typename F>
auto with_small_solver(SmallProblem& p, F f) {
  return std::visit([&](const auto& rows) { return f(SmallSolver(p, rows)); }, p.costs);
}
