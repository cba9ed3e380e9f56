"""POT: between uniform weights the optimal transport is an assignment; `emd` takes no solver."""

from __future__ import annotations

import numpy as np
import ot
from scipy.optimize import linear_sum_assignment


def test_the_plan_between_uniform_weights_is_the_assignment() -> None:
    r = np.random.default_rng(0)
    n = 400
    cost = ot.dist(r.random((n, 3)), r.random((n, 3)))
    weights = np.full(n, 1 / n)
    plan = ot.emd(weights, weights, cost)
    rows, columns = linear_sum_assignment(cost)
    np.testing.assert_allclose(plan[rows, columns], 1 / n, rtol=1e-9)
    np.testing.assert_allclose(np.sum(plan * cost), cost[rows, columns].mean(), rtol=1e-9)
