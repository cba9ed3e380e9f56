// Solves assignment problems with the CUDA solver's instrumented kernels, and prints what the race
// detector (race.h) finds.  Each answer is held against its certificate and against that of another
// interleaving, too.
// Usage: race_check SEED [--stop | --undetected] CASE...     a case: team/family, as in grid/ties
//        race_check --list
// Prints RUN|case before a case, CASE|case|outcomes|bidding rounds|forest rounds|rescans|whole rows
// after it, and the lines of race::report().  Exits with 1 at a wrong answer, 3 where threads wait
// for ever, 4 if there were reports; --stop: at the first; --undetected: fibers alone go wrong.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cuda/solver.h"
#include "race.h"

using namespace bmatch;
using Random = std::mt19937_64;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr const char* kTeams[] = {"warp", "block", "grid"};
// Problems of a batch: some teams of three blocks of 64 threads solve two, in the same memory.
constexpr int kBatch[] = {7, 4, 2};

constexpr int kWarpColumns = 256;  // a warp has no registers for more

double uniform(Random& r) { return std::uniform_real_distribution<double>(0.0, 1.0)(r); }

// A cost from the random numbers of its row and its column, and one of its own.
double sum_of(int, int, double, double b, double x) { return b + 0.1 * x; }
double spoilt(int i, int j, double, double b, double x) {
  return i % 9 == 4 && j == 23 ? std::nan("") : b + 0.1 * x;
}

// A list of candidates holds a row of up to 128 columns: only longer ones are read again.  Sums of
// more than 256 rows are those of several warps.
struct Family {
  const char* name;
  int rows, cols;
  cuda::Type type;
  double prices;  // the scale of prices to start from; zero: none
  bool batch;
  double (*cost)(int i, int j, double a, double b, double x);
};
constexpr Family kFamilies[] = {
    {"small", 3, 5, cuda::Type::float32, 0.0, true,
     [](int, int, double, double, double x) { return x; }},
    {"near", 30, 190, cuda::Type::float32, 0.0, true,
     [](int, int, double a, double b, double) { return std::fabs(a - b); }},
    {"constant", 35, 35, cuda::Type::float64, 0.0, true,
     [](int, int, double, double, double) { return 1.0; }},
    {"dented", 35, 35, cuda::Type::float64, 0.0, true,
     [](int i, int j, double, double, double) { return i % 16 == 3 && j == 30 ? 2.0 : 1.0; }},
    {"large", 260, 260, cuda::Type::float32, 0.0, false,
     [](int i, int j, double, double, double x) { return std::abs(i - j) + 0.01 * x; }},
    {"sum", 40, 40, cuda::Type::float32, 0.0, false, sum_of},
    {"planted", 20, 20, cuda::Type::float64, 1e6, false,
     [](int i, int j, double, double, double x) { return x + (i == j ? 0.0 : 1.0); }},
    {"dwarfed", 40, 40, cuda::Type::float64, 0.0, false,
     [](int i, int j, double, double, double x) {
       return i == j ? std::floor(1000.0 * x) : x < 0.05 ? std::floor(20000.0 * x) : 1e18;
     }},
    {"empty", 20, 20, cuda::Type::float32, 0.0, true,
     [](int, int, double, double, double) { return kInf; }},
    {"invalid", 30, 40, cuda::Type::float32, 0.0, true, spoilt},
    {"spoilt", 30, 30, cuda::Type::float32, 1.0, true, spoilt},
    {"infeasible", 40, 140, cuda::Type::float32, 0.0, true,
     [](int i, int j, double, double, double x) { return i >= 9 || j < 7 ? x : kInf; }},
    {"forbidden", 40, 45, cuda::Type::float64, 0.0, true,
     [](int i, int j, double, double, double x) { return i == j    ? 1.0
                                                         : x < 0.1 ? x
                                                                   : kInf; }},
    {"spare", 30, 150, cuda::Type::bfloat16, 0.0, true,
     [](int, int, double a, double b, double x) { return a * b + 0.02 * x; }},
    {"ties", 132, 132, cuda::Type::float16, 0.0, false,
     [](int, int, double, double, double x) { return std::floor(3.0 * x); }},
    {"uniform", 133, 133, cuda::Type::float32, 0.0, false,
     [](int, int, double, double, double x) { return x; }},
    {"warm", 133, 133, cuda::Type::float32, 1.0, false, sum_of},
    {"product", 131, 131, cuda::Type::float64, 0.0, false,
     [](int, int, double a, double b, double x) { return a * b + 0.05 * x; }},
};

std::uint16_t to_half(double x) {  // the nearest not above, of numbers that are not negative
  std::uint16_t low = 0, high = 0x7c01;
  while (high - low > 1) {
    const auto middle = static_cast<std::uint16_t>((low + high) / 2);
    (host::half_to_float(middle) <= x ? low : high) = middle;
  }
  return low;
}

// A number as a type stores it, and as it is then.
double store(double x, cuda::Type type, unsigned char* at) {
  if (type == cuda::Type::float64) {
    std::memcpy(at, &x, 8);
    return x;
  }
  if (type == cuda::Type::float16) {
    const std::uint16_t half = to_half(x);
    std::memcpy(at, &half, 2);
    return host::half_to_float(half);
  }
  auto narrow = static_cast<float>(x);
  unsigned char bytes[4];
  std::memcpy(bytes, &narrow, 4);
  if (type == cuda::Type::float32) {
    std::memcpy(at, bytes, 4);
  } else {
    std::memcpy(at, bytes + 2, 2);
    bytes[0] = bytes[1] = 0;
    std::memcpy(&narrow, bytes, 4);
  }
  return narrow;
}
std::size_t bytes_of(cuda::Type type) {
  return type == cuda::Type::float64 ? 8 : type == cuda::Type::float32 ? 4 : 2;
}

struct Answers {
  std::vector<std::int64_t> match;
  std::vector<double> u, v;
  std::vector<cuda::Report> reports;

  Answers(int count, int n, int m) : match(count * n), u(count * n), v(count * m), reports(count) {}
  std::string outcomes() const {
    std::string all;
    for (const cuda::Report& report : reports) all += std::to_string(report.outcome);
    return all;
  }
};

// What is wrong with an answer that claims to be optimal; null if nothing is.
const char* flaw(const std::vector<double>& cost, int rows, int cols, const std::int64_t* match,
                 const double* u, const double* v, double objective) {
  std::vector<bool> taken(cols);
  double sum = 0.0, dual = 0.0, scale = 1.0;
  for (int j = 0; j < cols; ++j) scale = std::max(scale, std::fabs(v[j]));
  for (int i = 0; i < rows; ++i) {
    const std::int64_t col = match[i];
    if (col < 0 || col >= cols || taken[col]) return "no matching";
    taken[col] = true;
    sum += cost[i * cols + col];
    dual += u[i];
    for (int j = 0; j < cols; ++j) {
      if (cost[i * cols + j] - u[i] - v[j] < -1e-12 * scale) return "duals are not feasible";
    }
  }
  for (int j = 0; j < cols; ++j) {
    dual += v[j];
    if (rows < cols && (v[j] > 0.0 || (!taken[j] && v[j] != 0.0))) return "a spare column's price";
  }
  const double near = 1e-12 * rows * scale;
  if (!(std::fabs(sum - dual) <= near)) return "not optimal";
  return std::fabs(sum - objective) <= near ? nullptr : "objective misreported";
}

// A batch of problems.
struct Batch {
  const Family& family;
  int count;
  std::vector<unsigned char> stored;
  std::vector<std::vector<double>> costs;
  std::vector<double> prices;

  Batch(const Family& f, int count, Random& r) : family(f), count(count), prices(f.cols) {
    const std::size_t width = bytes_of(f.type), entries = std::size_t(f.rows) * f.cols;
    stored.resize(count * entries * width);
    for (int k = 0; k < count; ++k) {
      std::vector<double> a(f.rows), b(f.cols);
      for (double& x : a) x = uniform(r);
      for (double& x : b) x = uniform(r);
      for (int j = 0; j < f.cols; ++j) prices[j] = f.prices * (b[j] + 0.1 * uniform(r));
      costs.emplace_back();
      for (std::size_t e = 0; e < entries; ++e) {
        const int i = static_cast<int>(e / f.cols), j = static_cast<int>(e % f.cols);
        const double cost = f.cost(i, j, a[i], b[j], uniform(r));
        costs[k].push_back(store(cost, f.type, &stored[(k * entries + e) * width]));
      }
    }
  }

  Answers solve(cuda::TeamKind team) const {
    const int n = family.rows, m = family.cols;
    const cuda::Task task{stored.data(),
                          family.type,
                          count,
                          n,
                          m,
                          std::int64_t{n} * m,
                          m,
                          Sense::minimize,
                          family.prices != 0.0 ? prices.data() : nullptr};
    const std::size_t bytes = cuda::workspace_bytes(task, team, 0);
    const std::unique_ptr<unsigned char[]> workspace(new unsigned char[bytes]);
    std::memset(workspace.get(), host::poison(), bytes);
    Answers a(count, n, m);
    race::begin_solve();
    race::watch(race::Memory::workspace, workspace.get(), bytes);
    const auto watch = [](race::Memory kind, const auto& x) {
      race::watch(kind, x.data(), sizeof(x[0]) * x.size());
    };
    watch(race::Memory::input, stored);
    watch(race::Memory::input, prices);
    watch(race::Memory::answer, a.match);
    watch(race::Memory::answer, a.u);
    watch(race::Memory::answer, a.v);
    watch(race::Memory::answer, a.reports);
    cuda::solve(task, team, {a.match.data(), a.u.data(), a.v.data(), a.reports.data()},
                workspace.get(), 0, nullptr);
    return a;
  }

  // What is wrong with answers of two interleavings; null if nothing is.
  const char* flaw_of(const Answers& a, const Answers& again) const {
    const std::size_t n = family.rows, m = family.cols;
    if (a.outcomes() != again.outcomes()) return "another outcome the second time";
    for (int k = 0; k < count; ++k) {
      const int outcome = a.reports[k].outcome;
      if (outcome != cuda::kOptimal && outcome != cuda::kDwarfed) continue;
      const auto same = [](const auto& x, const auto& y, std::size_t from, std::size_t size) {
        return std::equal(&x[from], &x[from] + size, &y[from]);
      };
      if (!same(a.match, again.match, k * n, n) || !same(a.u, again.u, k * n, n) ||
          !same(a.v, again.v, k * m, m)) {
        return "another answer the second time";
      }
      if (outcome == cuda::kDwarfed) continue;
      const char* const what = flaw(costs[k], family.rows, family.cols, &a.match[k * n],
                                    &a.u[k * n], &a.v[k * m], a.reports[k].objective);
      if (what != nullptr) return what;
    }
    return nullptr;
  }
};

// Two interleavings, of which one is watched: answers depend on none.
void check(const std::string& name, const Batch& batch, cuda::TeamKind team, std::uint64_t seed,
           bool detects) {
  race::only_disturb(!detects);
  host::seed(seed);
  const Answers answers = batch.solve(team);
  race::only_disturb(true);
  host::seed(seed + 1);
  const Answers again = batch.solve(team);
  if (const char* const what = batch.flaw_of(answers, again)) {
    std::printf("WRONG|%s|%s\n", name.c_str(), what);
    std::exit(1);
  }
  cuda::Report sum{};
  for (const cuda::Report& report : answers.reports) {
    sum.bidding_rounds += report.bidding_rounds;
    sum.forest_rounds += report.forest_rounds;
    sum.rescans += report.rescans;
    sum.whole_rows += report.whole_rows;
  }
  std::printf("CASE|%s|%s|%d|%d|%d|%d\n", name.c_str(), answers.outcomes().c_str(),
              sum.bidding_rounds, sum.forest_rounds, sum.rescans, sum.whole_rows);
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const auto asked = [&](const std::string& x) {
    return std::find(arguments.begin(), arguments.end(), x) != arguments.end();
  };
  if (arguments.empty()) return 2;
  const std::uint64_t seed = std::strtoull(argv[1], nullptr, 10);
  host::limit(300'000'000);
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);  // a crash must not lose what was told
  if (asked("--stop")) race::stop_at_first();
  std::atexit([] { race::report(); });
  for (const Family& family : kFamilies) {
    for (int team = 0; team < 3; ++team) {
      if (team == 0 && family.cols > kWarpColumns) continue;
      const std::string name = std::string(kTeams[team]) + "/" + family.name;
      if (asked("--list")) std::puts(name.c_str());
      if (!asked(name)) continue;
      std::printf("RUN|%s\n", name.c_str());
      Random r(seed);
      const Batch batch(family, family.batch ? kBatch[team] : 1, r);
      check(name, batch, static_cast<cuda::TeamKind>(team), seed, !asked("--undetected"));
    }
  }
  return race::found() ? 4 : 0;
}
