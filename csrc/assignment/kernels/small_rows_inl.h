// How rows come to the stages of small_inl.h: read where they are, copied, or turned.  Included
// after it, into the same unnamed namespace.
#pragma once

// Copies a row in float64 and takes its minimum; false if a cost is NaN or -infinity.
template <typename T>
bool copy_small(const T* costs, Index cols, std::int64_t col_stride, CostBits<T> bits, double* out,
                Index stride, double& minimum) {
  NanFlag nan;
  Doubles best = Doubles::all(kInf);
  if (col_stride == 1) {
    Index j = 0;
    for (; j + 16 <= cols; j += 16) {
      const Doubles a = Doubles::load(costs + j, bits), b = Doubles::load(costs + j + 8, bits);
      a.store(out + j);
      b.store(out + j + 8);
      best = min(b, min(a, best));
      nan.see(a, b);
    }
    for (; j < stride; ++j) out[j] = j < cols ? static_cast<double>(bits(costs[j])) : kInf;
  } else {
    for (Index j = 0; j < stride; ++j) {
      out[j] = j < cols ? static_cast<double>(bits(costs[j * col_stride])) : kInf;
    }
  }
  for (Index j = col_stride == 1 ? cols / 16 * 16 : 0; j < stride; j += 8) {
    const Doubles c = Doubles::load(out + j);
    best = min(c, best);
    nan.see(c, c);
  }
  minimum = least(best);
  return !nan.any() && minimum > -kInf;
}

// The same of eight rows whose entries of one column are side by side, in blocks of 8 x 8.
template <typename T>
bool copy_small_columns(const T* costs, Index cols, std::int64_t col_stride, CostBits<T> bits,
                        double* out, Index stride, double* minimum) {
  NanFlag nan;
  Doubles best[8];
  std::fill_n(best, 8, Doubles::all(kInf));
  for (Index j0 = 0; j0 < stride; j0 += 8) {
    Doubles block[8];
    for (Index k = 0; k < 8; ++k) {
      const T* const from = costs + (j0 + k) * col_stride;
      block[k] = j0 + k < cols ? Doubles::load(from, bits) : Doubles::all(kInf);
      nan.see(block[k], block[k]);
    }
    transpose(block);
    for (Index k = 0; k < 8; ++k) {
      block[k].store(out + std::int64_t{k} * stride + j0);
      best[k] = min(block[k], best[k]);
    }
  }
  bool finite = true;
  for (Index k = 0; k < 8; ++k) {
    minimum[k] = least(best[k]);
    finite &= minimum[k] > -kInf;
  }
  return !nan.any() && finite;
}

// The minimum of a row; false if a cost is NaN or -infinity.
template <typename T>
bool read_small(const T* costs, Index cols, CostBits<T> bits, double& minimum) {
  NanFlag nan;
  Doubles best = Doubles::all(kInf);
  Index j = 0;
  for (; j + 16 <= cols; j += 16) {
    const Doubles a = Doubles::load(costs + j, bits), b = Doubles::load(costs + j + 8, bits);
    best = min(b, min(a, best));
    nan.see(a, b);
  }
  for (; j < cols; j += 8) {
    const Mask8 inside =
        Mask8::of(static_cast<std::uint8_t>((1u << std::min<Index>(cols - j, 8)) - 1));
    const Doubles c = select(inside, Doubles::load(costs + j, bits), Doubles::all(kInf));
    best = min(c, best);
    nan.see(c, c);
  }
  minimum = least(best);
  return !nan.any() && minimum > -kInf;
}

template <typename T>
Index read_small(const CostView<T>& view, T* last, SmallProblem& p) {
  const std::int64_t pitch = view.row_stride;
  std::fill(std::copy_n(view.data + (p.rows - 1) * pitch, p.cols, last), last + p.stride, T{0});
  const SmallRows<T, true> rows{view.data, pitch, last, CostBits<T>(view.sense)};
  p.costs = rows;
  SmallSolver solver(p, rows);
  solver.open_columns();
  const Share most_left = p.rows == p.cols ? kFewLeftOfSquare : kFewLeftOfWide;
  const Index judged = p.rows / kJudgedOf;
  for (Index i = 0; i < p.rows; ++i) {
    if (i == judged && is_above(p.free_count + p.waiting, i, most_left)) return i;
    if (!read_small(rows.row(i, p.rows), p.cols, rows.bits, p.minimum[i])) return i;
    solver.claim(i);
  }
  return p.rows;
}

CopiedRows copied_rows(const SmallProblem& p) {
  return {p.copy, p.stride, nullptr, CostBits<double>()};
}

// Each row claims its column while it is at hand.
template <typename T>
bool copy_small(const CostView<T>& view, Index seen, SmallProblem& p) {
  const CostBits<T> bits(view.sense);
  const CopiedRows rows = copied_rows(p);
  p.costs = rows;
  SmallSolver solver(p, rows);
  if (seen == 0) solver.open_columns();
  bool valid = true;
  const bool by_columns = view.row_stride == 1 && view.col_stride != 1;
  for (Index i = 0; i < p.rows;) {
    const T* const from = view.data + i * view.row_stride;
    double* const to = p.copy + std::int64_t{i} * p.stride;
    const Index end = by_columns && i + 8 <= p.rows ? i + 8 : i + 1;
    valid &=
        end > i + 1
            ? copy_small_columns(from, p.cols, view.col_stride, bits, to, p.stride, p.minimum + i)
            : copy_small(from, p.cols, view.col_stride, bits, to, p.stride, p.minimum[i]);
    for (; i < end; ++i) {
      if (i >= seen) solver.claim(i);
    }
  }
  return valid;
}

// Blocks of 8 x 8.
template <typename Rows>
void turn_small(const Rows& rows, const SmallProblem& p, SmallProblem& turned) {
  turned.costs = copied_rows(turned);
  for (Index j0 = 0; j0 < turned.rows; j0 += 8) {
    const Index count = std::min<Index>(8, turned.rows - j0);
    Doubles least_of[8];
    std::fill_n(least_of, 8, Doubles::all(kInf));
    for (Index i0 = 0; i0 < turned.stride; i0 += 8) {
      Doubles block[8];
      for (Index k = 0; k < 8; ++k) {
        const Index i = i0 + k;
        block[k] =
            i < p.rows ? Doubles::load(rows.row(i, p.rows) + j0, rows.bits) : Doubles::all(kInf);
      }
      transpose(block);
      for (Index k = 0; k < count; ++k) {
        block[k].store(turned.copy + std::int64_t{j0 + k} * turned.stride + i0);
        least_of[k] = min(least_of[k], block[k]);
      }
    }
    for (Index k = 0; k < count; ++k) turned.minimum[j0 + k] = least(least_of[k]);
  }
}

constexpr SmallKernels small_kernels() {
  return {read_small<float>,
          read_small<double>,
          copy_small<float>,
          copy_small<double>,
          [](SmallProblem& p) { with_small_solver(p, [](auto solver) { solver.claim(); }); },
          [](SmallProblem& p) {
            return with_small_solver(p, [](auto solver) { return solver.start(); });
          },
          [](SmallProblem& p) {
            return with_small_solver(p, [](auto solver) { return solver.resume(); });
          },
          [](SmallProblem& p, double* duals) {
            with_small_solver(p, [duals](auto solver) { solver.row_duals(duals); });
          },
          [](SmallProblem& p) {
            return with_small_solver(p, [](auto solver) { return solver.least_prices(); });
          },
          [](const SmallProblem& p, SmallProblem& turned) {
            std::visit([&](const auto& rows) { turn_small(rows, p, turned); }, p.costs);
          }};
}
