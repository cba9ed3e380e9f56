#include "certify.h"

#include "sum.h"

namespace bmatch {

Certificate certify(const RowScanner& costs, const Matching& matching, ThreadTeam& team) {
  std::vector<double> u(costs.rows());
  const std::vector<std::uint8_t> none_free(padded(costs.cols()) / 8, 0);
  parallel_rows(costs, team, 0, costs.rows(), [&](Index i, int count, auto& scratch) {
    for (const Index end = i + count; i < end; ++i) {
      u[i] = costs.claim(i, matching.v.data(), none_free.data(), scratch).best;
    }
  });
  return certificate_of(costs, matching, std::move(u));
}

Certificate certificate_of(const RowScanner& costs, const Matching& matching,
                           std::vector<double> u) {
  Sum objective, gap;
  for (Index i = 0; i < costs.rows(); ++i) {
    const Index j = matching.col_of_row[i];
    const double cost = costs.cost(i, j);
    objective.add(cost);
    gap.add((cost - matching.v[j]) - u[i]);
  }
  if (costs.rows() < costs.cols()) {
    for (Index j = 0; j < costs.cols(); ++j) {
      if (matching.row_of_col[j] == kNone) gap.add(-matching.v[j]);
    }
  }
  return {std::move(u), objective.value(), gap.value()};
}

}  // namespace bmatch
