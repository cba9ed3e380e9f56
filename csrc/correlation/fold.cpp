#include "fold.h"

#include <tuple>

#include "kernels/correlation_kernels.h"

namespace bmatch {
namespace {

template <typename T>
void share_rows(const Fold<T>& task, Threads& threads) {
  const FoldRow<T> fold_row = std::get<FoldRow<T>>(correlation_kernels().fold_row);
  share(threads, task.d1, [&](std::int64_t i) { fold_row(task, i); });
}

}  // namespace

void fold(const Fold<float>& task, Threads& threads) { share_rows(task, threads); }

void fold(const Fold<double>& task, Threads& threads) { share_rows(task, threads); }

}  // namespace bmatch
