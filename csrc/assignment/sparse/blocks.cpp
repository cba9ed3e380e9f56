#include "blocks.h"

#include "assignment/policy.h"

namespace bmatch::sparse {
namespace {

class Search {
 public:
  Search(const Costs& costs, const Interrupted& interrupted)
      : costs_(costs),
        col_of_row_(costs.rows, kNone),
        row_of_col_(costs.cols, kNone),
        ahead_(costs.start.begin(), costs.start.end() - 1),
        next_(costs.rows),
        seen_(costs.cols, 0),
        interrupted_(interrupted) {}

  // Paths that have no column in common, from every free row, until there is none.
  Step match() {
    for (bool found = true; found;) {
      found = false;
      ++round_;
      for (Index i = 0; i < costs_.rows; ++i) {
        if (i % kReadsATurn == 0 && interrupted_()) return Step::interrupted;
        if (col_of_row_[i] == kNone && augment(i)) found = true;
      }
    }
    return Step::done;
  }

  Blocks blocks() const {
    enum : std::uint8_t { kOver, kEven, kUnder };
    std::vector<std::uint8_t> of_row(costs_.rows, kEven), of_col(costs_.cols, kEven);
    std::vector<Index> reached;
    for (Index i = 0; i < costs_.rows; ++i) {
      if (col_of_row_[i] != kNone) continue;
      of_row[i] = kOver;
      reached.push_back(i);
    }
    while (!reached.empty()) {
      const Index i = reached.back();
      reached.pop_back();
      for (Position k = costs_.start[i]; k < costs_.start[i + 1]; ++k) {
        const Index j = costs_.col[k];
        if (of_col[j] == kOver) continue;
        of_col[j] = kOver;
        of_row[row_of_col_[j]] = kOver;
        reached.push_back(row_of_col_[j]);
      }
    }
    for (Index j = 0; j < costs_.cols; ++j) {
      if (row_of_col_[j] != kNone) continue;
      of_col[j] = kUnder;
      reached.push_back(j);
    }
    const Columns columns(costs_);
    while (!reached.empty()) {
      const Index j = reached.back();
      reached.pop_back();
      for (Position k = columns.start[j]; k < columns.start[j + 1]; ++k) {
        const Index i = columns.row[k];
        if (of_row[i] == kUnder) continue;
        of_row[i] = of_col[col_of_row_[i]] = kUnder;
        reached.push_back(col_of_row_[i]);
      }
    }
    Blocks blocks;
    for (Index i = 0; i < costs_.rows; ++i) blocks[of_row[i]].rows.push_back(i);
    for (Index j = 0; j < costs_.cols; ++j) blocks[of_col[j]].cols.push_back(j);
    return blocks;
  }

 private:
  // The rows that have an entry in each column.
  struct Columns {
    std::vector<Position> start;  // [cols + 1]
    std::vector<Index> row;       // [entries]

    explicit Columns(const Costs& costs)
        : start(static_cast<std::size_t>(costs.cols) + 2, 0), row(costs.col.size()) {
      for (const Index j : costs.col) ++start[j + 2];
      for (Index j = 0; j < costs.cols; ++j) start[j + 2] += start[j + 1];
      for (Index i = 0; i < costs.rows; ++i) {
        for (Position k = costs.start[i]; k < costs.start[i + 1]; ++k) {
          row[start[costs.col[k] + 1]++] = i;
        }
      }
      start.pop_back();
    }
  };

  // A free column of the row, or kNone.  What was taken is never free again.
  Index free_column(Index i) {
    for (Position& k = ahead_[i]; k < costs_.start[i + 1]; ++k) {
      if (row_of_col_[costs_.col[k]] == kNone) return costs_.col[k];
    }
    return kNone;
  }

  // A column of the row that was not seen in this round, or kNone.
  Index unseen_column(Index i) {
    for (Position& k = next_[i]; k < costs_.start[i + 1]; ++k) {
      if (seen_[costs_.col[k]] != round_) return costs_.col[k];
    }
    return kNone;
  }

  void enter(Index i) {
    path_.push_back(i);
    next_[i] = costs_.start[i];
  }

  // Depth first from a free row to a free column, through columns not seen in this round.
  bool augment(Index first) {
    path_.clear();
    enter(first);
    while (!path_.empty()) {
      const Index i = path_.back();
      Index j = free_column(i);
      if (j != kNone) {
        for (; !path_.empty(); path_.pop_back()) {
          const Index row = path_.back(), before = col_of_row_[row];
          col_of_row_[row] = j;
          row_of_col_[j] = row;
          j = before;
        }
        return true;
      }
      j = unseen_column(i);
      if (j == kNone) {
        path_.pop_back();
        continue;
      }
      seen_[j] = round_;
      enter(row_of_col_[j]);
    }
    return false;
  }

  const Costs& costs_;
  std::vector<Index> col_of_row_, row_of_col_, path_;
  std::vector<Position> ahead_, next_;  // [rows], where the two searches of a row go on
  std::vector<Index> seen_;             // [cols], in which round
  Index round_ = 0;
  const Interrupted& interrupted_;
};

}  // namespace

Step find_blocks(const Costs& costs, const Interrupted& interrupted, Blocks& blocks) {
  Search search(costs, interrupted);
  const Step step = search.match();
  if (step == Step::done) blocks = search.blocks();
  return step;
}

}  // namespace bmatch::sparse
