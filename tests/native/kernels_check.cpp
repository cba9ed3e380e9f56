// The scans of rows against plain loops: minima, candidate lists, their bounds and best, grids, for
// every dtype, width, number of rows at a time, with ties, forbidden and invalid costs, by every
// instruction set of the machine.  Built by tests/native/test_native.py under sanitizers; exits
// with 1 at the first difference.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

#include "assignment/rounding_error.h"
#include "assignment/rows/dense_scanner.h"
#include "instruction_set.h"

using namespace bmatch;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

void require(bool holds, const char* what, int kind, Index cols) {
  if (holds) return;
  std::printf("%s: kind %d, %d columns, %s\n", what, kind, cols, name_of(instruction_set()));
  std::exit(1);
}

double draw(std::mt19937& r, int kind) {
  const double x = std::uniform_real_distribution<double>(0.0, 1.0)(r);
  switch (kind) {
    case 1:
      return std::floor(5.0 * x);
    case 2:
      return x < 0.9 ? kInf : x;
    case 3:
      return x - 0.5;
    case 4:
      return std::pow(10.0, 60.0 * x - 30.0);
    case 5:
      return 1.0;
    case 6:
      return x * 1e-310;
    case 7:
      return (x - 0.5) * 1e300;
    case 8:
      return 1.0 + std::floor(400.0 * x) * 0x1p-23;  // neighbours in float32
    case 9:
      return 1.0 + std::floor(400.0 * x) * 0x1p-50;  // equal in float32
    default:
      return x;
  }
}

template <typename T>
void check(std::mt19937& r, int kind, Index cols, int count) {
  constexpr Index kRows = 2 * kGroup + 1;
  std::vector<T> stored(static_cast<std::size_t>(kRows) * cols);
  for (T& c : stored) {
    const double x = draw(r, kind);
    c = static_cast<T>(sizeof(T) == 4 && std::isfinite(x) && std::fabs(x) > 3e38 ? 3e38 : x);
  }
  const DenseScanner<T> costs({stored.data(), kRows, cols, cols, 1, Sense::minimize});
  RowScanner::Scratch scratch = costs.scratch();

  RowMinima minima[kRows];
  costs.minima(0, count, minima, scratch);
  for (Index i = 0; i < count; ++i) {
    double best = kInf, second = kInf;
    Index col = kNone;
    for (Index j = 0; j < cols; ++j) {
      const double c = costs.cost(i, j);
      if (c < best)
        second = best, best = c, col = j;
      else
        second = std::min(second, c);
    }
    const RowMinima& m = minima[i];
    require(m.valid && m.best == best && m.col == col, "minimum", kind, cols);
    require(best == kInf || m.second == second, "second", kind, cols);
  }

  std::vector<double> v(padded(cols), 0.0);
  std::vector<float> rounded(padded(cols), 0.0f);
  double magnitude = 0.0;
  for (const bool priced : {false, true}) {
    if (priced) {
      for (Index j = 0; j < cols; ++j) {
        const double x = draw(r, kind);
        v[j] = std::isfinite(x) ? -std::fabs(x) : 0.0;
        rounded[j] = static_cast<float>(v[j]);
        magnitude = std::max(magnitude, -v[j]);
      }
    }
    const PriceView prices = priced ? PriceView{v.data(), rounded.data(), magnitude} : PriceView{};
    std::vector<Index> rows(kRows);
    for (Index k = 0; k < kRows; ++k) rows[k] = (3 * k + 1) % kRows;  // in no order
    std::vector<double> cost(kRows * kListCapacity);
    std::vector<Index> col(kRows * kListCapacity);
    std::vector<CandidateRow> made;
    for (int k = 0; k < count; ++k) {
      made.push_back({cost.data() + k * kListCapacity, col.data() + k * kListCapacity});
    }
    costs.candidates(rows.data(), count, prices, made.data(), scratch);
    for (int k = 0; k < count; ++k) {
      const CandidateRow& list = made[k];
      require(list.size <= kListCapacity, "length", kind, cols);
      require(list.valid, "validity", kind, cols);
      std::vector<int> listed(cols, 0);
      for (int at = 0; at < list.size; ++at) {
        if (list.cost[at] == kInf) continue;
        require(list.cost[at] == costs.cost(rows[k], list.col[at]), "cost", kind, cols);
        require(++listed[list.col[at]] == 1, "column listed twice", kind, cols);
      }
      int finite = 0, known = 0;
      for (Index j = 0; j < cols; ++j) {
        const double x = costs.cost(rows[k], j) - v[j];
        finite += x < kInf;
        known += listed[j];
        require(listed[j] == 1 || x >= list.bound, "bound", kind, cols);
      }
      require(known >= std::min(finite, cols < 2048 ? 11 : 13), "list too short", kind, cols);
    }
  }

  for (const int exponent : {-70, -51, -23, -1, 0, 1, 40}) {
    const double grid = std::ldexp(1.0, exponent);
    for (Index i = 0; i < count; ++i) {
      bool all = true;
      for (Index j = 0; j < cols; ++j) {
        const double c = costs.cost(i, j);
        all &= c == kInf || std::fmod(c, grid) == 0.0;
      }
      require(costs.on_grid(i, grid, scratch) == all, "grid", kind, cols);
    }
  }

  for (Index i = 0; i < count; ++i) {
    std::vector<double> entries(cols), values(cols);
    for (Index j = 0; j < cols; ++j) {
      entries[j] = costs.cost(i, j);
      values[j] = entries[j] - v[j];
    }
    const Greatest greatest = costs.greatest(i, v.data(), scratch);
    require(greatest.cost == *std::max_element(entries.begin(), entries.end()), "greatest", kind,
            cols);
    require(greatest.price == *std::max_element(v.begin(), v.begin() + cols), "price", kind, cols);
    const double u = values[r() % cols];
    double error = kInf;
    for (Index j = 0; j < cols; ++j) {
      if (values[j] == u) error = std::min(error, rounding_error(entries[j], v[j]));
    }
    require(costs.least_error(i, v.data(), u, scratch) == error, "least error", kind, cols);
    if (cols >= 32) {
      std::vector<double> least(16);
      const double x = costs.exceeded_by_most(i, v.data(), 16, least.data(), scratch);
      require(std::count_if(values.begin(), values.end(), [&](double y) { return y <= x; }) >= 16,
              "exceeded by most", kind, cols);
    }
    for (const Index most : {cols / 4, cols}) {
      std::vector<double> cost(most + 8);
      std::vector<Index> col(most + 8);
      for (const bool priced : {false, true}) {
        const std::vector<double>& of = priced ? values : entries;
        const double limit = priced ? values[r() % cols] : greatest.cost;
        std::vector<Index> expected;
        for (Index j = 0; j < cols; ++j) {
          if (of[j] < limit) expected.push_back(j);
        }
        const auto all = static_cast<Index>(expected.size());
        const Index found = costs.below(i, priced ? v.data() : nullptr, limit, most, cost.data(),
                                        col.data(), scratch);
        require(all <= most ? found == all : found > most && found <= most + 8, "how many below",
                kind, cols);
        for (Index k = 0; k < found; ++k) {
          require(col[k] == expected[k] && cost[k] == entries[col[k]], "below", kind, cols);
        }
      }
    }
  }

  // One entry that is no cost is seen, whatever rows are scanned with it.
  const std::size_t spoiled = r() % (static_cast<std::size_t>(count) * cols);
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), -kInf}) {
    const T kept = stored[spoiled];
    stored[spoiled] = static_cast<T>(bad);
    costs.minima(0, count, minima, scratch);
    require(!std::all_of(minima, minima + count, [](const RowMinima& m) { return m.valid; }),
            "invalid minimum", kind, cols);
    std::vector<Index> rows(count);
    std::vector<double> cost(kRows * kListCapacity);
    std::vector<Index> col(kRows * kListCapacity);
    std::vector<CandidateRow> made;
    for (int k = 0; k < count; ++k) {
      rows[k] = k;
      made.push_back({cost.data() + k * kListCapacity, col.data() + k * kListCapacity});
    }
    costs.candidates(rows.data(), count, {}, made.data(), scratch);
    require(!std::all_of(made.begin(), made.end(), [](const CandidateRow& m) { return m.valid; }),
            "invalid list", kind, cols);
    stored[spoiled] = kept;
  }
}

// What lists of any length offer to bids and to paths; few distinct values so that they tie.
void check_lists(std::mt19937& r, int kind, int size) {
  constexpr Index kCols = 90;
  std::vector<double> v(kCols), cost(size, kInf);
  std::vector<Index> col(size, 0);
  for (double& x : v) x = -std::floor(4.0 * std::uniform_real_distribution<double>()(r));
  const int used = static_cast<int>(r() % (size + 1));
  for (int k = 0; k < used; ++k) {
    cost[k] = draw(r, kind);
    col[k] = static_cast<Index>(r() % kCols);
  }
  double best = kInf, second = kInf;
  Index at = kNone;
  for (int k = 0; k < size; ++k) {
    const double x = cost[k] - v[col[k]];
    if (x < best)
      second = best, best = x, at = col[k];
    else
      second = std::min(second, x);
  }
  const ListBest found = row_kernels().list_best(cost.data(), col.data(), size, v.data());
  require(found.best == best && found.second == second && found.col == at, "list", kind, size);

  if (size > 32) return;
  std::vector<double> distance(kCols);
  for (double& x : distance) x = r() % 3 == 0 ? kInf : draw(r, kind);
  const double base = draw(r, kind), limit = r() % 2 == 0 ? kInf : draw(r, kind);
  std::uint32_t nearer = 0;
  for (int k = 0; k < size; ++k) {
    const double through = base + (cost[k] - v[col[k]]);
    if (through < distance[col[k]] && through < limit) nearer |= std::uint32_t{1} << k;
  }
  require(row_kernels().nearer(cost.data(), col.data(), size, base, v.data(), distance.data(),
                               limit) == nearer,
          "nearer", kind, size);
}

void check_all() {
  std::mt19937 r(11);
  for (int round = 0; round < 600; ++round) {
    const auto cols = static_cast<Index>(1 + r() % (round % 7 == 0 ? 2100 : 330));
    const int kind = round % 10, count = 1 + round % 9;
    check<float>(r, kind, cols, count);
    check<double>(r, kind, cols, count);
    for (int size = 0; size <= 96; size += 8) check_lists(r, kind, size);
  }
}

}  // namespace

int main() {
  for (const InstructionSet set : instruction_sets()) {
    use(name_of(set));
    check_all();
  }
  std::puts("all checked");
  return 0;
}
