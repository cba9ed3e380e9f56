// When the solver for host matrices does what: every threshold and budget, and what it rests on.
//
// Figures are of benchmarks/README.md ("What helped", "What did not") or of the prototypes that the
// solver was drawn from; "not measured on its own" says that only the whole was measured.  Times
// are milliseconds before -> after.  What the solver for devices goes by stands in cuda/solve.h,
// under the same names where it is the same.
#pragma once

#include <cstdint>
#include <limits>

namespace bmatch {

// A part of a whole, compared in integers.
struct Share {
  std::int64_t part, whole;
};
constexpr bool is_above(std::int64_t a, std::int64_t of, Share s) {
  return s.whole * a > s.part * of;
}
constexpr bool is_below(std::int64_t a, std::int64_t of, Share s) {
  return s.whole * a < s.part * of;
}

constexpr std::int64_t kUnlimited = std::numeric_limits<std::int64_t>::max();

// ---- Which way a matrix goes ---------------------------------------------------------------

// Up to so many entries whole rows, copied to float64, beat lists.  In prototypes the lists won
// above n = 256 to 512.
constexpr std::int64_t kSmall = 384 * 384;

// From so many entries on, starting threads pays.  Below, they do not when the other core is busy.
constexpr std::int64_t kThreaded = std::int64_t{1} << 24;

// Few distinct values in so many entries of so many rows: rows tie in more columns than lists hold,
// and whole rows are tried first.  With it binary, equal and constant matrices of n = 1024 beat the
// best peer 1.4 to 4.5 times.
constexpr int kValueRows = 4, kValueColumns = 64, kFewValues = 64;
// Bids and reads, a row, of that try.  Not measured on their own.
constexpr std::int64_t kFewValuesBids = 3, kFewValuesReads = 8;

// So large a part of the sampled entries is their greatest, and more than so many values are left:
// it stands in for forbidden pairs, and lists hold all others.  sparse, n = 4000: 1160 -> 140 ms.
constexpr Share kMostForbidden{3, 4};
constexpr int kForbiddenSample = 64, kAllowedValues = 4;
// The lists of all others hold at most this part of the matrix and so many entries a row, and their
// paths may end at their bounds so many times a row.  Not measured on their own.
constexpr std::int64_t kAllowedShare = 64, kAllowedEntries = 64, kAllowedEvents = 4;

// ---- First pass ----------------------------------------------------------------------------

// How many rows are read before it is first asked whether to go on; then twice as many each time.
// Not measured on its own.
constexpr int kFirstRows = 64;

// Minima alone are read while so few rows want a column that is taken; then lists.  With 1/24 or
// 1/10 in place of 1/64 noisy 4096 takes 1.1, uniform 1024 1.2 times as long.
constexpr int kFewCollisions = 3;
constexpr Share kCollisions{1, 64};

// From so many collisions among the first rows on, rows agree on what they want: column minima
// come first, over whole rows.  a + b 1024 23 -> 12 ms, equal rows 0.93 -> 0.58 ms.
constexpr Share kRowsAgree{3, 4};

// More free rows than this after the greedy start: prices from the columns' own minima, and a new
// start from there.  It rescues degenerate matrices; not measured on its own.
constexpr Share kColumnStart{1, 2};

// ---- Lists ---------------------------------------------------------------------------------

// A list has at least so many columns, by the number of columns of the matrix.  In place of 16
// everywhere: int100 1024 17%, noisy 1024 5 to 13%, noisy and int100 4096 5 to 7% less, spatial
// 1024 4 to 8% more.  11 at n = 4096: rows are read again five times as often.
constexpr int kShortList = 11, kMiddleList = 13, kLongList = 16;
constexpr int kShortListColumns = 2048, kMiddleListColumns = 8192;

// A list that is lengthened gets so many times as long; one that would hold this part of the row
// holds all of it.  Not measured on their own.
constexpr int kLengthen = 2, kWholeRow = 4;

// How many rows that bid next are looked at when one has to be read again.  Together with reading
// four side by side: lowrank 2048 18.7 -> 15.5 ms, 4096 76 -> 63 ms.
constexpr int kLookAhead = 64;

// The mean gap is that of so many rows; a part of them are read for it if they have no list yet.
// Measured together with the shorter lists above.
constexpr int kSampledRows = 256, kSampledAnew = 4;

// ---- Row reduction and paths over lists -------------------------------------------------------

// Up to this part of the rows free: no auction.  Up to 0.45: uniform 1024 1.2 -> 4.0 ms, spatial
// 2048 16 -> 41 ms; an auction where 0.06 are free: noisy 4096 9.5 -> 10.7 ms.
constexpr double kManyFree = 0.15;
// The same up to so many rows if more than this part of them has several best columns: integers
// 0..99, n = 450, 1.9 -> 1.2 ms.
constexpr double kManyFreeTied = 0.3, kMostTied = 0.8;
constexpr int kTiedRows = 512;

// Bids of row reduction and steps of paths, a row.  Not measured on their own.
constexpr std::int64_t kReductionBids = 12, kListPops = 20;

// Where every list ends in a tie, paths may come to the end of so many; then whole rows, so many
// reads a row.  In prototypes a + b and |a - b| 1024 beat the best peer by 1.2 and 1.4.
constexpr std::int64_t kTiedEvents = 16, kTiedReads = 8;

// ---- Auction -------------------------------------------------------------------------------

// A gap below this part of the mean magnitude of the rows' best costs is none: bids would crawl.
// Not measured on its own.
constexpr double kNoGap = 1e-6;

// Epsilons, of the mean gap: the first, and the last, of the first.  First ones of 0.01 to 0.1,
// last ones of 0.001 to 0.02 of the gap and steps of 4 are all within the noise.
constexpr double kFirstEpsilon = 0.02, kLastOfFirst = 0.1, kEpsilonStep = 10.0;
// One epsilon in their place where the best of a list leads the second by this part of the gap:
// noisy8 1024 0.65 -> 0.54, noisy 2048 1.75 -> 1.47 ms; where it does not, uniform 1024
// 0.77 -> 0.96 ms.
constexpr double kOnlyEpsilon = 0.004, kClearLead = 0.2;

// Up: so many bids a row, and epsilon grows until at most this part of the rows is free.  2 to 8
// bids and 1/32 to 1/256 of the rows are within the noise.
constexpr std::int64_t kUpBids = 4;
constexpr Share kFewFree{1, 64};
constexpr double kEpsilonGrowth = 4.0;

// Down: so many bids a row for each epsilon, in steps of so many, and beyond as long as this part
// of the bids at most reads a row again, up to so many in all.  spatial 8192 1700 -> 1100 ms.
constexpr std::int64_t kDownBids = 48, kStepBids = 8, kMostBids = 400;
constexpr Share kCheapBids{3, 10};

// An auction is hopeless if more than this part of a phase's bids reads a row again, and so many
// reads a row were made in all; then whole rows are tried.  The first alone: spatial 2048
// 29 -> 190 ms.  Fewer reads for few rows: not measured on its own.
constexpr Share kHopelessBids{2, 5};
constexpr std::int64_t kHopelessRescans = 16, kHopelessRescansOfFew = 4;
constexpr int kHopelessFewRows = 768;

// After the auction: bids of row reduction, a row, and how many lists the paths may come to the end
// of, up to so many rows; then whole rows.  Above n = 2048 that limit makes spatial slower.
constexpr std::int64_t kFinishBids = 20, kFinishEvents = 64;
constexpr int kFinishRows = 2048;

// ---- Whole rows ----------------------------------------------------------------------------

// A try from price zero: bids a free row, and reads a row, at least and for each row of so many.
// Sums, differences and blocks of equal rows take n / 22 reads of the matrix, sometimes twice that.
constexpr std::int64_t kTryBids = 2, kTryReads = 48, kTryReadsOf = 8;

// Small matrices: bids a free row before the paths.  In place of three for every row: spatial 16
// 2.8 -> 2.1 us, spatial 32 7.2 -> 5.4 us; 8 for every row: spatial 32 7.2 -> 10.5 us.
constexpr int kSmallBids = 2;

// Rounds of row reduction: rows that tie wait for the second.  After Jonker and Volgenant.
constexpr int kReductionRounds = 2;

// ---- Others --------------------------------------------------------------------------------

// Once this part of a device's rows was fetched, all others follow: moving them costs little more.
// Not measured on its own.
constexpr int kFetchAllAfter = 8;

// How often it is asked whether the user wants to stop: after so many bids, reads of whole rows,
// steps of paths, rows listed, and, in a pass, entries a thread, which take about 0.1 s, but so
// many rows at least.
constexpr std::int64_t kBidsATurn = 1024, kReadsATurn = 256, kPopsATurn = 256;
constexpr std::int64_t kRowsListedATurn = 64, kRowsATurn = 256;
constexpr std::int64_t kEntriesATurn = std::int64_t{1} << 27;

}  // namespace bmatch
