"""What an optimal assignment is held against."""

from __future__ import annotations

import numpy as np
import scipy.optimize

SENSES = {"minimize": {}, "maximize": {"maximize": True}, "magnitude": {"sign_marginalized": True}}
"""How each is asked for."""


def minimised(cost, sense):
    """What is minimised, in float64; forbidden pairs, infinite in whatever sense, are +inf."""
    signed = np.asarray(cost, np.float64)
    signed = {"minimize": signed, "maximize": -signed, "magnitude": -np.abs(signed)}[sense]
    return np.where(np.isinf(signed), np.inf, signed)


def scipy_objective(cost, maximize=False):
    return cost[scipy.optimize.linear_sum_assignment(cost, maximize)].astype(np.float64).sum()


def assert_certified(cost, a, maximize=False, sign_marginalized=False):
    """Feasible duals, tight on the matching, zero on what is unmatched: optimality itself."""
    c = np.asarray(cost, dtype=np.float64)
    c = -np.abs(c) if sign_marginalized else -c if maximize else c
    flip = -1.0 if maximize or sign_marginalized else 1.0
    u, v = flip * np.asarray(a.row_dual), flip * np.asarray(a.col_dual)
    scale = max(np.abs(c[np.isfinite(c)]).max(initial=0.0), 1e-300)
    assert (c - u[:, None] - v).min(initial=0.0) >= -1e-12 * scale
    n, m = c.shape
    matched = c[a.row_ind, a.col_ind]
    assert np.all(matched - u[a.row_ind] - v[a.col_ind] <= 1e-12 * scale * max(n, m))
    if n < m:
        unmatched = np.setdiff1d(np.arange(m), a.col_ind)
        assert np.all(v <= 0)
        assert np.all(v[unmatched] == 0)
    if n > m:
        unmatched = np.setdiff1d(np.arange(n), a.row_ind)
        assert np.all(u <= 0)
        assert np.all(u[unmatched] == 0)
    assert abs(flip * a.objective - matched.sum()) <= 1e-12 * max(scale, np.abs(matched).sum())
    assert abs(matched.sum() - u.sum() - v.sum()) <= 1e-10 * scale * max(n, m)
    assert 0 <= a.gap <= 1e-12 * scale * max(n, m)
