// Which way a matrix goes through the solver, and when: every threshold and budget, and what it
// rests on.
//
// Figures are of benchmarks/README.md ("What helped", "What did not"), or of the prototypes from
// which the solver was drawn, where that is said.  "Not measured on its own": only the solver as a
// whole was.  Times are before -> after; "a row" is for each row of the matrix.  What the solver
// for devices goes by stands in cuda/solve.h, under the same names where it is the same.
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

// ---- Before the matrix is read -------------------------------------------------------------

// Entries up to which whole rows in float64 beat lists.  512 rows, 81 families of users'
// matrices: lists win by 6% in the geometric mean, 400 rows: they lose by 14%.
constexpr std::int64_t kSmall = 448 * 448;

// Entries from which on they are read where they are instead: IoU and planted 400 1.2 to 1.5 times
// as quick; but not if of the first rows, 1 of so many, more than this part finds its column taken.
// The copy, whose rows begin where vectors do, is quicker to read often.
constexpr std::int64_t kReadInPlace = 192 * 192;
constexpr int kJudgedOf = 4;
constexpr Share kFewLeftOfSquare{1, 20}, kFewLeftOfWide{1, 2};

// Entries from which on starting threads pays.  Below, it does not when the other core is busy.
constexpr std::int64_t kThreaded = std::int64_t{1} << 24;

// Entries up to which gathering rows that use a part of each cache line only is as quick as a copy
// of the matrix.  512 x 256 float64, tall, from there on copied: 0.32 -> 0.20 ms.
constexpr std::int64_t kGathered = 64 * 128;

// A matrix has few values if a sample of it has: its rows tie in more columns than lists hold.
constexpr int kValueRows = 4;      // of the sample
constexpr int kValueColumns = 64;  // of each of these rows
constexpr int kFewValues = 64;     // distinct ones, at most
// Then whole rows are tried first if in so many rows of another sample more than this part is at
// its least cost, and lists end at once: binary, constant 1024 0.40 -> 0.24, graph edit 1024
// 1.5 -> 0.55 ms.  Whatever few values there are, as before: IoU crowded 1500 2.2 -> 9.1, gate 4096
// 7.0 -> 39, forbidden 1500 1.9 -> 9.3 ms, the geometric mean of 150 matrices of 1024 and 1500 rows
// 1.24.
constexpr std::int32_t kPlateauRows = 16;
constexpr Share kManyPlateaus{1, 4};

// Sampled entries below a limit at which rows may stay out, above which a square matrix is solved
// as one whose entries are clamped.  n = 4000, all below: spatial 733 -> 154 ms, uniform 92 -> 45
// ms; with 0.6 of them below, integers 0..99 take 62 -> 285 ms.
constexpr Share kMostBelow{3, 4};

// ---- First pass ----------------------------------------------------------------------------

// Rows read before it is first asked whether minima alone will do; then as many again as were read.
// Not measured on its own.
constexpr int kFirstRows = 64;

// Rows whose best column is taken, up to which minima alone will do: so many, or this part of the
// rows read.  Lists from 1/24 or 1/10 on only: noisy 4096 1.1, uniform 1024 1.2 times slower.
constexpr int kFewCollisions = 3;
constexpr Share kCollisions{1, 64};

// Rows want the same columns if so many of the first ones meet a column that is taken.
constexpr Share kRowsAgree{3, 4};
// So they do if so many of the first ones that find their column taken have the next in common: one
// zero a row and scales of columns 1000 26 -> 0.75 ms; ReLU activations, 0.78, are not meant.
constexpr Share kOthersAgree{7, 8};
// Then columns are taken for rows if, in a sample, they agree this much less.  Not measured on its
// own.
constexpr int kLeastSample = 16, kMostSample = 64;  // rows, and columns, of the sample
constexpr int kSampledOf = 16;                      // one of so many
constexpr Share kMoreThanColumns{2, 1};

// Free rows after the greedy start, above which there is a new start from the columns' own minima.
// It rescues degenerate matrices; not measured on its own. Above half of the rows, if columns'
// least costs seem to match half of these: equal rows of which 99% is forbidden 1000 12 -> 2 ms;
// whatever they match: DETR 1400 3.9 -> 8.9 ms.
constexpr Share kColumnStart{3, 4};

// Columns that have a price then where there are more of them than rows, by the rows.
// Distances and column shifts 1000 x 2000 with 19/20, all and 21/20 of them: 25, 42 and 53 reads.
constexpr Share kPriced{31, 32};

// Rows that a start by regret has to match, for its prices to be better than those of columns.
constexpr Share kMostTight{9, 10};

// ---- Lists ---------------------------------------------------------------------------------

// Columns that a list has at least, by the columns of the matrix.  16 everywhere before: int100
// 1024 17%, noisy 1024 5 to 13%, noisy and int100 4096 5 to 7% less, uniform 4096 7%, lowrank 4096
// 5 to 10%, spatial 1024 4 to 8% more.  11 at n = 4096: rows are read again five times as often.
constexpr int kShortList = 11, kShortListColumns = 2048;    // below so many columns
constexpr int kMiddleList = 13, kMiddleListColumns = 8192;  // likewise
constexpr int kLongList = 16;

// How a list is lengthened.  Not measured on its own.
constexpr int kLengthen = 2;  // times as long as it was
constexpr int kWholeRow = 4;  // the whole row, if it were to hold 1 of so many columns
constexpr int kFewTimes = 4;  // so many times as long where that is what is below a threshold

// Rows that bid next, among which more are sought when one has to be read again.  With the reading
// of four rows side by side: lowrank 2048 18.7 -> 15.5 ms, 4096 76 -> 63 ms.
constexpr int kLookAhead = 64;

// Rows whose mean gap between best column and bound is taken for all rows'.  All rows before:
// measured together with the shorter lists.
constexpr int kSampledRows = 256;
constexpr int kSampledAnew = 4;  // 1 of so many of these is read if it has no list yet

// ---- Row reduction and paths over lists ----------------------------------------------------

// Rows that bids leave free, up to which there is no auction.
constexpr Share kFewLeft{3, 200};

// What they may take before the next stage.  Not measured on their own.
constexpr std::int64_t kReductionBids = 12;  // a row
// Row reduction is judged each time that there were as many bids as rows.  Where they leave more
// than this part of the free rows free, twice, rows fight over prices; and from the third time on
// they are to leave less than that, or an auction does better: noisy and uniform 2048 1.2 to 1.6
// times slower if it goes on.
constexpr Share kStandstill{9, 10};
constexpr int kStandstills = 2;
constexpr int kSlowTurns = 3;
constexpr Share kSlow{2, 5};
// Unless so few rows are free at the beginning.  An auction where 0.06 are free: noisy 4096 9.5 ->
// 10.7 ms.
constexpr Share kManyFree{3, 20};
constexpr std::int64_t kListPops = 20;  // columns and bounds that paths come by, a row

// The same before whole rows take over for good.  Without it, groups of ten equal rows that keep
// their nearest 5 columns 1000 12 -> 20 ms; with a fifth of it 8 ms, but kNN 2048 32 -> 68 ms.
constexpr std::int64_t kFinishPops = 100;

// Reads, a row, by paths over lists and over whole rows of a matrix with more columns than rows,
// before its columns have prices.  2 over lists: DETR copies 1536 x 1024 1.8 -> 11 ms; 8 over whole
// rows: blocks and low rank, noisy, 910 x 700 5 -> 76 ms; 4: ten equal columns 1536 x 1024 7 -> 18.
constexpr std::int64_t kWideListReads = 4, kWideRowReads = 32;
// An auction is undone there if it leaves prices to so many columns, by the rows, that nobody has:
// product, noisy 1536 x 1024 510 -> 310 ms; never any: sum, noisy 1536 x 1024 55 -> 280 ms.
constexpr Share kManySpare{1, 8};

// Reads of rows by paths over lists before whole rows take over, a row, and at least.  A fifth of
// them: logits 1500 2.8 -> 12.8 ms, ranks 1500 2.8 -> 14.9 ms.  They take over early if by 1 of so
// many of these reads hardly any path has come to an end: cost limit 1024 3.0 -> 2.2, DETR 1024
// 3.5 -> 2.5 ms, where none has; but twenty nearest 1024 10 -> 50 ms if 1/8 of them were wanted.
constexpr std::int64_t kPathReads = 1;
constexpr std::int64_t kLeastPathReads = 160;
constexpr std::int64_t kEarlyOf = 4;
constexpr Share kHardlyDone{1, 32};
// What a list that grows counts for, about what it takes.  10: ten places 2048 14 -> 58, uint8 1500
// 2.2 -> 3.3, edits 1500 3.4 -> 4.3, but column scales 1500 26 -> 22 ms.
constexpr std::int64_t kGrowthReads = 4;

// Reads of rows for a free column at their bound that find none, one after another, up to which
// such reads come before the columns at that distance.  Never before them: few zeros 1500
// 1.4 -> 7 ms; always: edits 1024 1.9 -> 2.5, two decimals 1024 1.5 -> 1.7 ms.
constexpr int kMisses = 8;

// ---- Auction -------------------------------------------------------------------------------

// A typical gap up to this part of the best costs' typical magnitude is none: bids would crawl. Not
// measured on its own.
constexpr double kNoGap = 1e-6;

// Nor is there an auction where bids came to their end and the two best of more than this part of
// the rows tie. Half of them: dice 1024 2.6 -> 8.3, Toeplitz 1024 1.7 -> 6.1, scipy integer 1024
// 1.0 -> 1.7 ms; however many do: ten places 1024 3.9 -> 12, |a - b| integers 1024 8 -> 28 ms.
constexpr Share kMostTie{3, 4};

// Where their median is so many times their lower quartile, no epsilon suits most rows: 9 and
// exp(30 normal) 1024 28 -> 4.9 ms; in families with other costs it is 1.2 to 2.
constexpr double kWideSpread = 4.0;

// And where lists of more than this part of the rows end in ties, what is below a plateau is
// listed: paths over lists are quick.  sparse 1400 23 -> 12.5 ms; half of the rows: 49 ms on some.
constexpr Share kListsEnd{1, 3};

// Nor where in most rows of a sample no more costs than these are below the plateau: paths list
// them.  banded 4096 95 -> 8.2, twenty nearest 1500 16 -> 12, but banded 1500 1.4 -> 2.0 ms.
// However many are below: IoU crowded 1500 2.1 -> 1.4, but forbidden 1500 1.9 -> 4.7 ms.
constexpr std::int32_t kFewBelow = 32;

// Epsilon, by the typical gap.  First ones of 0.01 to 0.1, last ones of 0.001 to 0.02 of the gap
// and steps of 4: all within the noise.
constexpr double kFirstEpsilon = 0.02;
constexpr double kLastOfFirst = 0.1;   // the last, by the first
constexpr double kEpsilonStep = 10.0;  // between them, downwards

// A single epsilon instead, where the best of a list leads the second by this part of the gap.
// noisy8 1024 0.65 -> 0.54, noisy 2048 1.75 -> 1.47 ms; where the lead is smaller, uniform 1024
// 0.77 -> 0.96 ms.
constexpr double kOnlyEpsilon = 0.004;
constexpr double kClearLead = 0.2;

// Up: epsilon grows until an auction of so many bids leaves few rows free.  2 to 8 bids and 1/32 to
// 1/256 of the rows: all within the noise.
constexpr std::int64_t kUpBids = 4;  // a row
constexpr Share kFewFree{1, 64};     // of the rows
constexpr double kEpsilonGrowth = 4.0;
constexpr int kMostGrowths = 16;  // where rows stay free all the same, as in infeasible problems

// Down: bids at an epsilon, and more as long as they are cheap.  Without more, spatial 8192:
// 1.1 -> 1.7 s, in prototypes.
constexpr std::int64_t kDownBids = 48;   // a row
constexpr std::int64_t kStepBids = 8;    // at a time, a row
constexpr std::int64_t kMostBids = 400;  // of the whole solve, a row
constexpr Share kCheapBids{3, 10};       // of the bids read a row again, at most

// An auction is hopeless, and a start over whole rows is tried, if this part of its bids read a row
// again, and it has done so often; if that is no way out, it goes on, and is left after this many.
// Left at 12 without going on: colours 1500 18 -> 226 ms, product, noisy 1500 32 -> 585 ms.
constexpr Share kHopelessBids{2, 5};
constexpr std::int64_t kHopelessRescans = 16;  // a row
// The same for fewer rows than that.
constexpr std::int64_t kHopelessRescansOfFew = 4;
constexpr int kHopelessFewRows = 768;
// And where most costs are alike and many rows are free, so often: what is below the plateau is
// listed instead, for paths. Nearest 20 of points 1000 240 -> 30 ms, 3000 5.1 -> 0.21 s.
constexpr std::int64_t kPlateauRescans = 2;
constexpr std::int64_t kLeftRescans = 40;  // a row
constexpr std::int64_t kLeftRescansOfFew = 16;

// After the auction: bids, and reads of rows before whole rows take over, fewer for few rows.  In
// prototypes the latter made spatial slower above n = 2048.
constexpr std::int64_t kFinishBids = 20;         // a row
constexpr std::int64_t kFinishReads = 16;        // by paths over lists, a row
constexpr std::int64_t kFinishReadsOfFew = 640;  // of all rows
constexpr int kFinishRows = 2048;                // of the matrix, at most

// ---- Whole rows ----------------------------------------------------------------------------

// Where lists cannot help, column prices come first, then bids, a free row, and paths, unless more
// than this part of the rows are free.  Not measured on its own.
constexpr Share kHalf{1, 2};
constexpr Share kFewFreeOfStart{1, 8};  // by row minima, up to which column prices stay zero
constexpr std::int64_t kStartBids = 2;
// Reads of rows, a row, by such paths: where there are few values, after a hopeless auction, and
// where rows agree, one for so many rows, or so many.
constexpr std::int64_t kFewValuesReads = 8, kHopelessReads = 5;
constexpr std::int64_t kCrowdedReadsOf = 8, kCrowdedReads = 48;
constexpr int kEarliest = 16;  // 1 of so many of those reads are spent before they are judged

// Rows from which on a small square matrix may turn, and go the way of large ones if more than this
// part of the rows are free before they bid.  At 32 rows what is looked at costs more than it
// gives: ten places 5 -> 7 us.
constexpr int kTwoSidedRows = 64;
constexpr Share kNearlyAll{19, 20};
// The same of one with more columns than rows, whose columns then have prices. Two values and
// column shifts 400 x 500 13.4 -> 0.95, distances and column shifts 400 x 500 6.5 -> 2.4 ms; 3/4:
// integers and column shifts 200 x 250 0.17 -> 0.29 ms.
constexpr Share kMostFreeOfWide{17, 20};

// Column prices stay zero if more than this part of so many free rows have so few costs nearer to
// their least than to the mean of so many.  Softmax 400 1.07 -> 0.33, squared distances to the
// nearest 2 400 3.7 -> 0.63, two a row 400 0.42 -> 0.28 ms, the geometric mean of 422 matrices
// 0.97; sparse 200 0.26 -> 0.31.  Always zero: uniform 400 0.92 -> 1.9.
constexpr int kNearRows = 8, kFewNear = 4, kMeanOf = 64;
constexpr Share kMostHaveFew{3, 4};

// Paths of small matrices begin at the columns where free rows tie in kPlateau of the columns and
// free columns in less than this part of the rows. Cost limit 64 0.017 -> 0.008, 128
// 0.052 -> 0.02 ms.
constexpr Share kNarrow{1, 16};
// Free rows of small ones, above which it is asked whether columns' own minima are a better start.
// Equal rows with 90% forbidden 300 1.08 -> 0.06; with 97% 2.1 -> 0.14 ms, but 2.1 with 3/4.
constexpr Share kColumnsAlone{1, 2};

// Rows wait for the others where so much of a sample of so many blocks of 8 columns is at their
// minimum; and columns take their place if more than half of the rows do and fewer columns would:
// this part, at most.  zero columns 400 2.3 -> 0.3, DETR 400 0.8 -> 0.3 ms.
constexpr Share kPlateau{1, 4};
constexpr int kPlateauBlocks = 8;
constexpr Share kFewerPlateaus{7, 8};
constexpr Share kSomePlateaus{1, 8};  // of the rows of a sample

// Reads of the matrix by paths from one side before they begin at the other, and then back, each
// time so many times as many.  Paths turn earlier if by the first read so few of them have come to
// an end: cost limit 400 0.57 -> 0.38, 1024 12.4 -> 8.8, DETR 1024 12.1 -> 8.3 ms; a quarter:
// banded 400 0.30 -> 0.44 ms.  2 reads in place of 4: twenty nearest 1500 85 -> 132 ms.
constexpr std::int64_t kTurnReads = 4, kMoreReads = 4;
constexpr std::int64_t kEarlyReads = 1;
constexpr Share kFewDone{1, 8};
// Free rows by then, above which a matrix of so many rows, most of whose costs are alike, goes the
// way of large ones: rows that lose all that is near pay the same for the rest, and each of their
// paths over whole rows goes through all that is near. Events in two recordings 400 7.6 -> 2.8 ms,
// nearest 5 of points 400 11 -> 2 ms; 200 rows: nearest 20 of points 1.6 -> 2.7 ms.
constexpr Share kManyLeft{1, 8};
constexpr int kManyLeftRows = 256;

// Entries up to which columns are copied for that, of matrices whose rows lie in memory, and of
// those whose rows are made.
constexpr std::int64_t kMostCopied = std::int64_t{1} << 26;
constexpr std::int64_t kMostMade = std::int64_t{1} << 20;

// Bids before the paths of small matrices, a free row.  Three for every row before: spatial 16
// 2.8 -> 2.1 us, spatial 32 7.2 -> 5.4 us; 8 for every row: spatial 32 7.2 -> 10.5 us.
constexpr int kSmallBids = 2;
// The same from so many rows on. uniform 400 1.28 -> 0.87, noisy 400 1.29 -> 0.98, row scales 400
// 0.68 -> 0.47 ms, the geometric mean of 105 families 0.96; at 200 rows 1.01.
constexpr int kMoreSmallBids = 6, kMoreBidsRows = 256;
// Then as many again as rows are free, if these are fewer than this part of what they were.
constexpr Share kStillFalling{4, 5};

// Rounds of row reduction; rows that tie wait for the next.  Two in Jonker and Volgenant's paper;
// not measured on their own.
constexpr int kReductionRounds = 2;

// ---- Others --------------------------------------------------------------------------------

// Once 1 of so many rows was fetched from a device, all others follow: moving them costs little
// more.  Not measured on its own.
constexpr int kFetchAllAfter = 8;

// How much is done between two questions whether the user wants to stop.  A pass of so many entries
// takes a thread about 0.1 s; the others were not measured on their own.
constexpr std::int64_t kBidsATurn = 1024;
constexpr std::int64_t kPopsATurn = 256;   // of paths over lists
constexpr std::int64_t kReadsATurn = 256;  // of rows, by other stages than a pass
constexpr std::int64_t kEntriesATurn = std::int64_t{1} << 27;
constexpr std::int64_t kRowsATurn = 256;  // of a pass, at least

// ---- The answer ----------------------------------------------------------------------------

// Reads of the matrix for the least prices of an answer whose prices dwarf it.
constexpr std::int64_t kLeastPricesReads = 4;
// The same of a small one, row after row, before that. Forbidden 1e6 16 x 16 2.6 -> 2.0, 32 x 32
// 8 -> 5.5 us; 4 of them: 9 us where they are not enough.
constexpr int kLeastPricesSweeps = 8;

}  // namespace bmatch
