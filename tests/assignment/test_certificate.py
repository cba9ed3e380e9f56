"""Certificates: what they prove of any solver's answer."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize

import bmatch


@pytest.mark.parametrize("shape", [(8, 8), (20, 9), (9, 20), (70, 70)])
def test_certify_any_solvers_answer(shape):
    cost = np.random.default_rng(1).integers(0, 30, shape).astype(np.float64)
    pairs = scipy.optimize.linear_sum_assignment(cost, True)
    for answer in (pairs, bmatch.solve(cost, maximize=True)):
        c = bmatch.certify(cost, answer, maximize=True)
        assert c.objective == c.bound == cost[pairs].sum()
        assert c.gap == 0
        assert c.min_reduced_cost == 0
    worse = pairs[0], np.roll(pairs[1], 1)
    c = bmatch.certify(cost, worse, maximize=True)
    assert c.gap == c.bound - c.objective > 0
    with pytest.raises(ValueError, match="no matching of the matrix of shape"):
        bmatch.certify(cost, (pairs[0], np.zeros_like(pairs[1])))
    a = bmatch.solve(cost, sign_marginalized=True)
    assert bmatch.certify(cost, a, sign_marginalized=True).gap == 0
