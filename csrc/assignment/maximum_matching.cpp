#include "maximum_matching.h"

#include <cstdint>

#include "policy.h"

namespace bmatch {
namespace {

using Word = std::uint64_t;
constexpr Index kBits = 64;

// A set of columns.
class Columns {
 public:
  Columns(Index cols, bool all) : words_((cols + kBits - 1) / kBits, all ? ~Word{0} : 0) {
    if (all && cols % kBits != 0) words_.back() = (Word{1} << cols % kBits) - 1;
  }
  void erase(Index j) { words_[j / kBits] &= ~(Word{1} << j % kBits); }
  const Word* words() const { return words_.data(); }

 private:
  std::vector<Word> words_;
};

class Search {
 public:
  Search(const RowScanner& costs, const Interrupted& interrupted)
      : rows_(costs.rows()),
        cols_(costs.cols()),
        words_((cols_ + kBits - 1) / kBits),
        finite_(static_cast<std::size_t>(rows_) * words_, 0),
        col_of_row_(rows_, kNone),
        row_of_col_(cols_, kNone),
        free_(cols_, true),
        interrupted_(interrupted) {}

  Step read(const RowScanner& costs) {
    RowScanner::Scratch scratch = costs.scratch();
    for (Index i = 0; i < rows_; ++i) {
      if (i % kReadsATurn == 0 && interrupted_()) return Step::interrupted;
      const double* const cost = costs.row_costs(i, scratch);
      Word* const bits = finite_.data() + std::int64_t{i} * words_;
      bool valid = true;
      for (Index j = 0; j < cols_; ++j) {
        valid &= cost[j] > -kInfinity;
        bits[j / kBits] |= Word{cost[j] < kInfinity} << j % kBits;
      }
      if (!valid) return Step::invalid;
    }
    return Step::done;
  }

  // Paths that have no column in common, from every free row, until there is none.
  Step match() {
    for (bool found = true; found;) {
      found = false;
      Columns unseen(cols_, true);
      for (Index i = 0; i < rows_; ++i) {
        if (i % kReadsATurn == 0 && interrupted_()) return Step::interrupted;
        if (col_of_row_[i] == kNone && augment(i, unseen)) found = true;
      }
    }
    return Step::done;
  }

  Blocks blocks() {
    enum : std::uint8_t { kOver, kEven, kUnder };
    std::vector<std::uint8_t> of_row(rows_, kEven), of_col(cols_, kEven);
    std::vector<Index> reached;
    for (Index i = 0; i < rows_; ++i) {
      if (col_of_row_[i] == kNone) reached.push_back(i);
    }
    for (Columns unseen(cols_, true); !reached.empty();) {
      const Index i = reached.back();
      reached.pop_back();
      of_row[i] = kOver;
      for (Index j; (j = first_common(i, unseen)) != kNone;) {
        unseen.erase(j);
        of_col[j] = kOver;
        reached.push_back(row_of_col_[j]);
      }
    }
    std::vector<Index> left;  // rows that no free column reaches as yet
    for (Index j = 0; j < cols_; ++j) {
      if (row_of_col_[j] == kNone) of_col[j] = kUnder;
    }
    for (Index i = 0; i < rows_; ++i) {
      if (of_row[i] == kOver) continue;
      (first_common(i, free_) == kNone ? left : reached).push_back(i);
    }
    while (!reached.empty()) {
      const Index i = reached.back(), j = col_of_row_[i];
      reached.pop_back();
      of_row[i] = of_col[j] = kUnder;
      auto kept = left.begin();
      for (const Index k : left) {
        if (is_finite(k, j)) {
          reached.push_back(k);
        } else {
          *kept++ = k;
        }
      }
      left.erase(kept, left.end());
    }
    Blocks blocks;
    for (Index i = 0; i < rows_; ++i) blocks[of_row[i]].rows.push_back(i);
    for (Index j = 0; j < cols_; ++j) blocks[of_col[j]].cols.push_back(j);
    return blocks;
  }

 private:
  const Word* row(Index i) const { return finite_.data() + std::int64_t{i} * words_; }
  bool is_finite(Index i, Index j) const { return (row(i)[j / kBits] >> j % kBits & 1) != 0; }

  // The first column of a set, from a word on, in which the row has a finite entry, or kNone.
  Index first_common(Index i, const Columns& columns, Index word = 0) const {
    const Word *const finite = row(i), *const of = columns.words();
    for (; word < words_; ++word) {
      const Word common = finite[word] & of[word];
      if (common != 0) return word * kBits + static_cast<Index>(__builtin_ctzll(common));
    }
    return kNone;
  }

  // Depth first from a free row to a free column, through columns not seen in this round.
  bool augment(Index first, Columns& unseen) {
    struct Place {
      Index row, word;  // where its search goes on
    };
    std::vector<Place> path{{first, 0}};
    while (!path.empty()) {
      Place& at = path.back();
      Index j = at.word == 0 ? first_common(at.row, free_) : kNone;
      if (j != kNone) {
        free_.erase(j);
        for (; !path.empty(); path.pop_back()) {
          const Index i = path.back().row, before = col_of_row_[i];
          col_of_row_[i] = j;
          row_of_col_[j] = i;
          j = before;
        }
        return true;
      }
      j = first_common(at.row, unseen, at.word);
      if (j == kNone) {
        path.pop_back();
        continue;
      }
      at.word = j / kBits;
      unseen.erase(j);
      path.push_back({row_of_col_[j], 0});
    }
    return false;
  }

  const Index rows_, cols_, words_;
  std::vector<Word> finite_;  // [rows, words], one bit an entry
  std::vector<Index> col_of_row_, row_of_col_;
  Columns free_;
  const Interrupted& interrupted_;
};

}  // namespace

Step find_blocks(const RowScanner& costs, const Interrupted& interrupted, Blocks& blocks) {
  Search search(costs, interrupted);
  Step step = search.read(costs);
  if (step == Step::done) step = search.match();
  if (step == Step::done) blocks = search.blocks();
  return step;
}

}  // namespace bmatch
