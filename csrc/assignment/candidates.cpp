#include "candidates.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>

namespace bmatch {
namespace {

constexpr std::uint8_t kLong = 255;  // in size_: the list has outgrown its slot

}  // namespace

CandidateLists::CandidateLists(const Context& context, ThreadTeam& team)
    : costs_(context.costs),
      matching_(context.matching),
      stats_(context.stats),
      kernels_(row_kernels()),
      cost_(static_cast<std::size_t>(costs_.rows()) * kListCapacity),
      col_(static_cast<std::size_t>(costs_.rows()) * kListCapacity),
      size_(costs_.rows(), 0),
      bound_(costs_.rows(), -kInfinity),
      plain_(costs_.rows(), 0),
      found_cost_(costs_.cols() + 8),
      found_col_(costs_.cols() + 8),
      rounded_(padded(costs_.cols()), 0.0f),
      team_(team) {
  for (int k = 0; k < team.threads(); ++k) scratch_.push_back(costs_.scratch());
  prices_changed(true);
}

CandidateLists::List CandidateLists::of(Index i) const {
  if (size_[i] == kLong) {
    const LongList& list = long_.at(i);
    return {list.cost.data(), list.col.data(), static_cast<int>(list.col.size()), bound_[i]};
  }
  const std::int64_t at = std::int64_t{kListCapacity} * i;
  return {cost_.data() + at, col_.data() + at, size_[i], bound_[i]};
}

bool CandidateLists::scan(Index first, int count, RowScanner::Scratch& scratch) {
  PriceView prices;
  if (magnitude_ > 0.0) {  // a scan at prices takes the costs for valid: this one looks first
    RowMinima minima[kChunk];
    costs_.minima(first, count, minima, scratch);
    if (!std::all_of(minima, minima + count, [](const RowMinima& m) { return m.valid; })) {
      return false;
    }
    prices = {matching_.v.data(), rounded_.data(), magnitude_};
  }
  Index rows[kChunk];
  std::iota(rows, rows + count, first);
  return remake(rows, count, prices, scratch);
}

bool CandidateLists::remake(const Index* rows, int count, PriceView prices,
                            RowScanner::Scratch& scratch) {
  CandidateRow made[kChunk];
  for (int k = 0; k < count; ++k) made[k] = slot(rows[k]);
  costs_.candidates(rows, count, prices, made, scratch);
  for (int k = 0; k < count; ++k) {
    keep(rows[k], made[k]);
    plain_[rows[k]] = prices.magnitude == 0.0;
  }
  return std::all_of(made, made + count, [](const CandidateRow& row) { return row.valid; });
}

void CandidateLists::adopt(Index i, const RowMinima& minima) {
  const CandidateRow made = slot(i);
  std::fill_n(made.cost, 8, kInfinity);
  std::fill_n(made.col, 8, 0);
  made.cost[0] = minima.best;
  if (minima.col != kNone) made.col[0] = minima.col;
  size_[i] = 8;
  bound_[i] = minima.second;
  plain_[i] = 1;
}

double CandidateLists::least_cost(Index i) const {
  if (!plain_[i] || size_[i] == kLong) return kNan;
  const List list = of(i);
  return std::min(list.bound, *std::min_element(list.cost, list.cost + list.size));
}

CandidateLists::Gap CandidateLists::typical_gap() {
  std::vector<double> gap, lead, magnitude;
  std::int64_t rows = 0, ending = 0, tied = 0;
  for (Index i = 0; i < costs_.rows(); i += sample_step()) {
    if (adopted(i)) continue;
    const auto [x, second, col] = best(i);
    if (!(bound_[i] < kInfinity)) continue;
    gap.push_back(bound_[i] - x);
    lead.push_back(second - x);
    magnitude.push_back(std::fabs(x));
    ++rows;
    tied += second == x;
    ending += ends_in_ties(i);
  }
  // The value below which so much of a sample is.
  const auto quantile = [](std::vector<double>& values, double part) {
    if (values.empty()) return kNan;
    const auto at = static_cast<std::ptrdiff_t>(part * static_cast<double>(values.size()));
    std::nth_element(values.begin(), values.begin() + at, values.end());
    return values[at];
  };
  const double lower = quantile(gap, 0.25), middle = quantile(gap, 0.5);
  return {middle,
          quantile(lead, 0.5),
          quantile(magnitude, 0.5),
          middle / lower,
          is_above(ending, rows, kListsEnd),
          is_above(tied, rows, kMostTie)};
}

bool CandidateLists::ends_in_ties(Index i) const {
  const List list = of(i);
  for (int k = 0; k < list.size; ++k) {
    if (list.cost[k] < kInfinity && list.cost[k] - matching_.v[list.col[k]] == list.bound)
      return true;
  }
  return false;
}

void CandidateLists::sample() {
  for (Index i = 0; i < costs_.rows(); i += kSampledAnew * sample_step()) {
    if (adopted(i)) rescan(i);
  }
}

void CandidateLists::rescan(const Index* rows, int count) {
  stats_.row_reads += count;
  stats_.rescans += count;
  for (int k = 0; k < count; ++k) {
    if (size_[rows[k]] == kLong) long_.erase(rows[k]);
  }
  const PriceView prices{matching_.v.data(), rounded_.data(), magnitude_};
  if (count < 2 * kGroup || team_.threads() == 1) {
    remake(rows, count, prices, scratch_[0]);
    return;
  }
  std::atomic<int> next{0};
  team_.run([&](int thread) {
    for (int k; (k = next.fetch_add(kGroup, std::memory_order_relaxed)) < count;) {
      remake(rows + k, std::min(kGroup, count - k), prices, scratch_[thread]);
    }
  });
}

bool CandidateLists::list_below_plateau(Index i) {
  ++stats_.row_reads;
  ++stats_.rescans;
  const Greatest greatest = costs_.greatest(i, matching_.v.data(), scratch_[0]);
  const double bound = greatest.cost - greatest.price;
  if (bound <= bound_[i]) return false;
  const Index most = costs_.cols() / kWholeRow;
  const Index count = costs_.below(i, nullptr, greatest.cost, most, found_cost_.data(),
                                   found_col_.data(), scratch_[0]);
  if (count >= most) return false;
  set_long(i, found(count), bound);
  return true;
}

CandidateLists::LongList CandidateLists::found(Index count) const {
  return {{found_cost_.begin(), found_cost_.begin() + count},
          {found_col_.begin(), found_col_.begin() + count}};
}

void CandidateLists::lengthen(Index i) {
  ++stats_.row_reads;
  ++stats_.rescans;
  const Index cols = costs_.cols();
  const double* v = matching_.v.data();
  const Index wanted = kLengthen * std::max<Index>(of(i).size, kListCapacity);
  double threshold = kInfinity;
  if (wanted < cols / kWholeRow) {
    threshold = costs_.exceeded_by_most(i, v, wanted, found_cost_.data(), scratch_[0]);
  }
  // Where many tie there, as at a plateau, what is below it is a list by itself.
  const bool strictly = threshold > of(i).bound || threshold == kInfinity;
  const double limit = strictly ? threshold : std::nextafter(threshold, kInfinity);
  const Index count =
      costs_.below(i, v, limit, cols, found_cost_.data(), found_col_.data(), scratch_[0]);
  if (count <= kFewTimes * wanted || threshold == kInfinity) {
    set_long(i, found(count), threshold);
    return;
  }
  struct Entry {
    double value;
    Index at;  // in what was found
    bool operator<(const Entry& b) const { return value != b.value ? value < b.value : at < b.at; }
  };
  std::vector<Entry> entries(count);
  for (Index k = 0; k < count; ++k) entries[k] = {found_cost_[k] - v[found_col_[k]], k};
  std::nth_element(entries.begin(), entries.begin() + wanted, entries.end());
  const double bound = entries[wanted].value;
  entries.resize(wanted);
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.at < b.at; });
  LongList list;
  for (const Entry& entry : entries) {
    list.cost.push_back(found_cost_[entry.at]);
    list.col.push_back(found_col_[entry.at]);
  }
  set_long(i, std::move(list), bound);
}

void CandidateLists::set_long(Index i, LongList list, double bound) {
  list.col.resize((list.col.size() + 7) / 8 * 8, 0);
  list.cost.resize(list.col.size(), kInfinity);
  long_[i] = std::move(list);
  size_[i] = kLong;
  bound_[i] = bound;
}

void CandidateLists::prices_changed(bool fell) {
  magnitude_ = 0.0;
  for (Index j = 0; j < costs_.cols(); ++j) {
    magnitude_ = std::max(magnitude_, std::fabs(matching_.v[j]));
    rounded_[j] = static_cast<float>(matching_.v[j]);
  }
  if (fell) return;
  std::fill(bound_.begin(), bound_.end(), -kInfinity);
  std::fill(size_.begin(), size_.end(), std::uint8_t{0});
  std::fill(plain_.begin(), plain_.end(), std::uint8_t{0});
  long_.clear();
}

}  // namespace bmatch
