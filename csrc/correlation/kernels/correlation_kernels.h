// The inner loops of the passes over tokens, one table of functions for each instruction set.
//
// Tables are compiled in avx2.cpp, products_avx512.cpp and portable.cpp, and found at run time by
// correlation_kernels().  Sums and folds are the same to the last bit in every table: each column
// is added in one order.
#pragma once

#include <cstdint>
#include <tuple>
#include <type_traits>

#include "correlation/column_sums.h"
#include "correlation/fold.h"
#include "instruction_set.h"
#include "product_kernel.h"

namespace bmatch {

// The sums of a task in one thread; `near` [2, cols] is room for sums of a few rows.
template <typename T>
using SumRows = void (*)(const ColumnSums<T>& task, typename ColumnSums<T>::Sum* near);

// One row of a task.
template <typename T>
using FoldRow = void (*)(const Fold<T>& task, std::int64_t i);

struct CorrelationKernels {
  std::tuple<SumRows<float>, SumRows<double>, SumRows<Bfloat16>> sum_rows;
  std::tuple<FoldRow<float>, FoldRow<double>> fold_row;
  const ProductKernel *float_product, *bfloat16_product;  // null where there is none

  // The kernel of products of a type on this machine, or null.
  template <typename T>
  const ProductKernel* product() const {
    if constexpr (std::is_same_v<T, float>)
      return float_product;
    else
      return has_bfloat16() ? bfloat16_product : nullptr;
  }
};

// The table of the instruction set in use.
const CorrelationKernels& correlation_kernels();

}  // namespace bmatch
