// The kernels of row_kernels.h over the vectors of one instruction set.  Included, after its
// simd_*.h, into an unnamed namespace of the file that is compiled for that set.  The order
// matters: each of these files uses what stands in those before it.
#pragma once

#include "widen_inl.h"
#include "rows_inl.h"
#include "minima_inl.h"
#include "lists_inl.h"
#include "sweeps_inl.h"
#include "small_inl.h"
#include "small_rows_inl.h"

template <typename T>
constexpr RowScans<T> row_scans() {
  return {minima<T>, candidates<T>,  best_two<T>,         claim<T>, is_plateau<T>,  relax<T>,
          lower<T>,  greatest_of<T>, exceeded_by_most<T>, below<T>, least_error<T>, on_grid<T>};
}
