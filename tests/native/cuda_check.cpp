// Runs the CUDA solver on the CPU, one fiber a thread (csrc/cuda/host), on random problems, and
// holds every answer against the CPU solver's objective, against its own duals, and against the
// answer of another interleaving.
// Usage: cuda_check [seed [problems [most rows]]].  Exits with 1 on the first wrong answer.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>
#include <limits>
#include <memory>
#include <random>
#include <tuple>
#include <vector>

#include "assignment/rows/dense_scanner.h"
#include "assignment/solver.h"
#include "cuda/solver.h"

using namespace bmatch;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
const Interrupted kNever = [] { return false; };
constexpr const char* kKinds[] = {"uniform",       "few values", "|a - b|",       "product",
                                  "constant",      "forbidden",  "wide range",    "equal rows",
                                  "equal columns", "a + b",      "near diagonal", "sparse"};
constexpr int kKindCount = sizeof kKinds / sizeof *kKinds, kForbidden = 5, kSparse = 11;

struct Problem {
  int kind, rows, cols;
  std::int64_t stride;
  Sense sense;
  std::vector<double> cost;  // [rows, stride], NaN between rows
  bool may_be_dwarfed;       // by prices: the answer is the host's to give
};

Problem make(std::mt19937& r, int kind, int rows, int cols) {
  const int gap = static_cast<int>(r() % 3);
  const auto sense = static_cast<Sense>(kind == kForbidden ? r() % 2 : r() % 3);
  Problem p{kind,
            rows,
            cols,
            cols + gap,
            sense,
            {},
            kind == 6 || (kind == kSparse && sense != Sense::minimize)};
  p.cost.assign(static_cast<std::size_t>(rows) * p.stride, std::nan(""));
  std::uniform_real_distribution<double> uniform(0.0, 1.0);
  std::vector<double> a(rows), b(cols);
  for (double& x : a) x = uniform(r);
  for (double& x : b) x = uniform(r);
  const double density = uniform(r);
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < cols; ++j) {
      double c = uniform(r);
      switch (kind) {
        case 1:
          c = std::floor(c * (2 + static_cast<int>(density * 20)));
          break;
        case 2:
          c = std::fabs(a[i] - b[j]);
          break;
        case 3:
          c = a[i] * b[j];
          break;
        case 4:
          c = 1.0;
          break;
        case 5:
          c = c < density ? (sense == Sense::maximize ? -kInf : kInf) : c;
          break;
        case 6:
          c = std::pow(10.0, 60.0 * c - 30.0);
          break;
        case 7:
          c = b[j];
          break;
        case 8:
          c = a[i];
          break;
        case 9:
          c = a[i] + b[j];
          break;
        case 10:
          c = std::abs(i * cols / rows - j) + 0.01 * c;
          break;
        case kSparse:
          c = c < 3.0 / cols || i == j ? std::floor(1000.0 * uniform(r)) : 2147483647.0;
          break;
        default:
          break;
      }
      if (kind != kForbidden && r() % 4 == 0 && sense == Sense::maximize_magnitude) c = -c;
      p.cost[static_cast<std::size_t>(i) * p.stride + j] = c;
    }
  }
  if (kind == kSparse && r() % 2 == 0) {  // one cost off the grid of the others
    const auto i = r() % rows;
    p.cost[i * p.stride + i] += 0.37;
    p.may_be_dwarfed = true;
  }
  return p;
}

[[noreturn]] void fail(const char* what, const Problem& p, const char* type, cuda::TeamKind team) {
  std::printf("%s: %s, %d x %d, %s, sense %d, team %d\n", what, kKinds[p.kind], p.rows, p.cols,
              type, static_cast<int>(p.sense), static_cast<int>(team));
  std::exit(1);
}

// float32 numbers whose last bits are zero, so that they are bfloat16, and the reverse.
std::uint16_t to_bfloat16(double x) {
  const auto narrow = static_cast<float>(x);
  std::uint32_t bits;
  std::memcpy(&bits, &narrow, sizeof bits);
  return static_cast<std::uint16_t>(bits >> 16);
}
double from_bfloat16(std::uint16_t half) {
  const std::uint32_t bits = std::uint32_t{half} << 16;
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
double from_half(std::uint16_t half) { return host::half_to_float(half); }
std::uint16_t to_half(double x) {  // the nearest below in magnitude, by search
  std::uint16_t low = 0, high = 0x7c00;
  const double magnitude = std::fabs(x);
  while (high - low > 1) {
    const auto middle = static_cast<std::uint16_t>((low + high) / 2);
    (from_half(middle) <= magnitude ? low : high) = middle;
  }
  if (std::isinf(x)) low = 0x7c00;
  return static_cast<std::uint16_t>(low | (x < 0.0 ? 0x8000 : 0));
}

template <typename T>
struct Storage {
  static const char* name() { return sizeof(T) == 4 ? "float32" : "float64"; }
  static constexpr cuda::Type type = sizeof(T) == 4 ? cuda::Type::float32 : cuda::Type::float64;
  static T store(double x) { return static_cast<T>(x); }
  static double load(T x) { return static_cast<double>(x); }
};
struct Half {
  std::uint16_t bits;
};
struct Bfloat16 {
  std::uint16_t bits;
};
template <>
struct Storage<Half> {
  static const char* name() { return "float16"; }
  static constexpr cuda::Type type = cuda::Type::float16;
  static Half store(double x) { return {to_half(x)}; }
  static double load(Half x) { return from_half(x.bits); }
};
template <>
struct Storage<Bfloat16> {
  static const char* name() { return "bfloat16"; }
  static constexpr cuda::Type type = cuda::Type::bfloat16;
  static Bfloat16 store(double x) { return {to_bfloat16(x)}; }
  static double load(Bfloat16 x) { return from_bfloat16(x.bits); }
};

std::vector<int> outcomes(const std::vector<cuda::Report>& reports) {
  std::vector<int> out;
  for (const cuda::Report& report : reports) out.push_back(report.outcome);
  return out;
}

// Several problems of one shape at once.
template <typename T>
void check(const std::vector<Problem>& problems, cuda::TeamKind team) {
  using S = Storage<T>;
  const Problem& first = problems.front();
  const std::int64_t one = first.rows * first.stride;
  std::vector<T> stored;  // exactly as long as it must be: reads beyond are found
  std::vector<std::vector<double>> values;
  for (const Problem& p : problems) {
    values.emplace_back();
    for (const double x : p.cost) {
      stored.push_back(S::store(x));
      values.back().push_back(S::load(stored.back()));
    }
  }
  stored.resize(stored.size() - (first.stride - first.cols));
  stored.shrink_to_fit();
  const cuda::Task task{stored.data(), S::type,    static_cast<std::int64_t>(problems.size()),
                        first.rows,    first.cols, one,
                        first.stride,  first.sense};
  const std::size_t bytes = cuda::workspace_bytes(task, team, 0);
  const std::unique_ptr<unsigned char[]> workspace(new unsigned char[bytes]);
  const std::size_t count = problems.size();
  std::vector<std::int64_t> col_of_row(count * first.rows);
  std::vector<double> u(count * first.rows), v(count * first.cols);
  std::vector<cuda::Report> reports(count);
  const auto solve_anew = [&] {
    std::memset(workspace.get(), host::poison(), bytes);
    std::fill(col_of_row.begin(), col_of_row.end(), 7777);
    cuda::solve(task, team, {col_of_row.data(), u.data(), v.data(), reports.data()},
                workspace.get(), 0, nullptr);
  };
  solve_anew();
  const auto earlier = std::tuple{col_of_row, u, v, outcomes(reports)};
  solve_anew();
  const bool all = std::none_of(reports.begin(), reports.end(), [](const cuda::Report& report) {
    return report.outcome == cuda::kInfeasible;  // no duals
  });
  if (all && earlier != std::tuple{col_of_row, u, v, outcomes(reports)})
    fail("another answer the second time", first, S::name(), team);

  for (std::size_t k = 0; k < count; ++k) {
    const Problem& p = problems[k];
    const DenseScanner<double> costs({values[k].data(), p.rows, p.cols, p.stride, 1, p.sense});
    const Solution expected = solve(costs, Options{}, kNever);
    const std::int64_t* match = &col_of_row[k * p.rows];
    if (expected.outcome == Outcome::infeasible) {
      if (reports[k].outcome != cuda::kInfeasible) fail("not found infeasible", p, S::name(), team);
      int trapped = 0, reached = 0;
      for (int i = 0; i < p.rows; ++i) trapped += match[i] == cuda::kTrapped;
      for (int j = 0; j < p.cols; ++j) {
        bool any = false;
        for (int i = 0; i < p.rows; ++i)
          any |= match[i] == cuda::kTrapped && costs.cost(i, j) < kInf;
        reached += any;
      }
      if (reached != trapped - 1) fail("no proof of infeasibility", p, S::name(), team);
      continue;
    }
    const bool dwarfed = p.may_be_dwarfed && reports[k].outcome == cuda::kDwarfed;
    if (reports[k].outcome != cuda::kOptimal && !dwarfed) fail("no answer", p, S::name(), team);
    std::vector<int> taken(p.cols, 0);
    double magnitudes = 0.0;
    long double sum = 0.0, dual = 0.0;
    for (int i = 0; i < p.rows; ++i) {
      if (match[i] < 0 || match[i] >= p.cols || taken[match[i]]++ > 0)
        fail("no matching", p, S::name(), team);
      const double c = costs.cost(i, static_cast<Index>(match[i]));
      sum += c;
      magnitudes += std::fabs(c);
    }
    if (p.kind == 4 && p.sense != Sense::maximize_magnitude) {
      for (int i = 0; i < p.rows; ++i) {
        if (match[i] != i) fail("constant, not the identity", p, S::name(), team);
      }
    }
    double least = kInf, scale = 0.0;
    for (int i = 0; i < p.rows; ++i) {
      dual += u[k * p.rows + i];
      for (int j = 0; j < p.cols; ++j) {
        const double c = costs.cost(i, j);
        if (c < kInf) scale = std::max(scale, std::fabs(c));
        least = std::min(least, c - u[k * p.rows + i] - v[k * p.cols + j]);
      }
    }
    for (int j = 0; j < p.cols; ++j) {
      const double price = v[k * p.cols + j];
      dual += price;
      scale = std::max(scale, std::fabs(price));
      if (p.cols > p.rows && (price > 0.0 || (!taken[j] && price != 0.0)))
        fail("spare column with a price", p, S::name(), team);
    }
    if (least < -1e-12 * scale) fail("duals are not feasible", p, S::name(), team);
    const double ulps = 1e-12 * magnitudes;
    if (!dwarfed && std::fabs(static_cast<double>(sum) - expected.objective) > ulps) {
      std::printf("objective %.17g, expected %.17g\n", static_cast<double>(sum),
                  expected.objective);
      fail("not optimal", p, S::name(), team);
    }
    if (std::fabs(reports[k].objective - static_cast<double>(sum)) > 1e-14 * magnitudes)
      fail("objective misreported", p, S::name(), team);
    if (p.kind != 6 && reports[k].gap > ulps + 1e-14 * scale * p.rows) {
      std::printf("gap %g of %g\n", reports[k].gap, magnitudes);
      fail("gap too large", p, S::name(), team);
    }
  }
}

void check_any(std::mt19937& r, int kind, int rows, int cols, cuda::TeamKind team, int count) {
  std::vector<Problem> problems{make(r, kind, rows, cols)};
  while (static_cast<int>(problems.size()) < count) {
    Problem p = make(r, r() % 4 == 0 ? kForbidden : kind, rows, cols);
    if (p.stride == problems[0].stride && p.sense == problems[0].sense)
      problems.push_back(std::move(p));
  }
  switch (r() % 5) {
    case 0:
      return check<double>(problems, team);
    case 1:
      return kind == 6 ? check<double>(problems, team) : check<Half>(problems, team);
    case 2:
      return check<Bfloat16>(problems, team);
    default:
      return check<float>(problems, team);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned seed = argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 1;
  const int problems = argc > 2 ? std::atoi(argv[2]) : 60;
  const unsigned most = argc > 3 ? static_cast<unsigned>(std::atoi(argv[3])) : 150;
  std::mt19937 r(seed);
  host::seed(seed);
  host::limit(300'000'000);
  for (int k = 0; k < problems; ++k) {
    const int kind = k % kKindCount;
    const auto team = static_cast<cuda::TeamKind>(k / kKindCount % 3);
    const int rows = 1 + static_cast<int>(r() % (r() % 4 == 0 ? most : 40));
    const int cols = rows + (r() % 3 == 0 ? static_cast<int>(r() % (2 * rows)) : 0);
    check_any(r, kind, rows, cols, team,
              1 + static_cast<int>(r() % (team == cuda::TeamKind::grid ? 2 : 8)));
  }
  std::puts("all checked");
}
