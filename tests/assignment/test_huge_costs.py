"""Costs whose sums and differences pass the range of float64."""

from __future__ import annotations

import itertools
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bmatch
from bmatch import _core

GREATEST = sys.float_info.max
ROUNDINGS = 2.0**974  # some, of what is as large as that


def brute_force(cost, best):
    """The best sum of all assignments of the rows, in rational numbers."""
    exact = [[Fraction(x) for x in row] for row in cost.tolist()]
    orders = itertools.permutations(range(cost.shape[1]), len(exact))
    return best(sum(exact[i][j] for i, j in enumerate(order)) for order in orders)


def total(cost, cols):
    return sum(Fraction(cost[i, j]) for i, j in enumerate(cols.tolist()))


def as_float(value):
    """A rational number as float64 rounds it, infinite beyond its range."""
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf


@given(st.integers(0, 10**9), st.booleans(), st.sampled_from([0, 1, 3]))
@settings(max_examples=300, deadline=None)
def test_answers_objectives_and_certificates(seed, maximize, more):
    r = np.random.default_rng(seed)
    n = int(r.integers(1, 6))
    cost = 1.79e308 * r.uniform(-1, 1, (n, n + more))
    if seed % 3 == 0:
        cost = np.where(r.random(cost.shape) < 0.4, GREATEST, r.random(cost.shape))
    if seed % 3 == 1:
        cost = r.choice([GREATEST, -GREATEST, 1e308, 0.0], cost.shape)
    best = brute_force(cost, max if maximize else min)
    a = bmatch.solve(cost, maximize)
    assert abs(total(cost, a.col_of_row) - best) <= ROUNDINGS
    assert a.objective == pytest.approx(as_float(total(cost, a.col_of_row)), rel=1e-15)
    assert 0 <= a.gap <= ROUNDINGS
    for small in (0, 2**16):
        sense = _core.Sense.maximize if maximize else _core.Sense.minimize
        solved = _core.solve(cost, sense, 1, False, None, small=small)
        assert abs(total(cost, solved.col_of_row) - best) <= ROUNDINGS
    (col_of_row,) = bmatch.batch_linear_sum_assignment(cost[None], maximize)
    assert abs(total(cost, col_of_row) - best) <= ROUNDINGS
    col_ind = bmatch.linear_sum_assignment(cost, maximize)[1]
    assert abs(total(cost, col_ind) - best) <= ROUNDINGS
    if np.isfinite(a.row_dual).all() and np.isfinite(a.col_dual).all():
        c = bmatch.certify(cost, a, maximize)
        assert c.objective == pytest.approx(a.objective, rel=1e-15)
        assert 0 <= c.gap <= ROUNDINGS
        assert c.min_reduced_cost >= -ROUNDINGS


def test_duals_that_float64_can_hold_are_finite():
    cost = np.array([[1.04e308, -1.17e308], [4.4e307, -1.68e308]])
    a = bmatch.solve(cost)
    assert a.col_ind.tolist() == [1, 0]
    assert a.objective == pytest.approx(-7.3e307)
    assert np.isfinite(a.row_dual).all()
    assert np.isfinite(a.col_dual).all()
    assert bmatch.certify(cost, a).gap == a.gap == 0


@pytest.mark.parametrize(
    ("cost", "col_ind", "objective"),
    [
        ([[1.7e308, 1.6e308], [1.6e308, 1.7e308]], [1, 0], np.inf),
        ([[1e308, -1e308], [-1e308, 1e308]], [1, 0], -np.inf),
        (np.full((3, 3), GREATEST), [0, 1, 2], np.inf),
        ([[1.0, GREATEST], [GREATEST, GREATEST]], [0, 1], GREATEST),
    ],
)
def test_an_objective_beyond_the_range_is_infinite(cost, col_ind, objective):
    a = bmatch.solve(cost)
    assert a.col_ind.tolist() == col_ind
    assert a.objective == objective
    assert bmatch.certify(cost, a).objective == objective
    assert bmatch.certify(cost, a).gap == a.gap == 0
    assert bmatch.solve(-np.array(cost), maximize=True).objective == -objective


def test_paths_pass_the_range_where_no_price_does():
    inf = np.inf
    cost = np.array(
        [
            [6.01308443e307, -1.28235039e308, inf],
            [inf, inf, -1.01382742e308],
            [1.06081012e308, inf, 1.15840256e308],
            [1.12678780e308, inf, -9.65495722e307],
            [6.23917503e307, inf, 4.66658190e307],
        ]
    )
    row_ind, col_ind = bmatch.linear_sum_assignment(cost)
    assert (row_ind.tolist(), col_ind.tolist()) == ([0, 1, 4], [1, 2, 0])
    assert bmatch.linear_sum_assignment(cost.T.copy())[1].tolist() == [4, 0, 1]


@pytest.mark.parametrize("n", [60, 500])
def test_what_is_wrong_with_such_a_matrix_is_still_said(n):
    r = np.random.default_rng(0)
    cost = 1.7e308 * r.uniform(-1, 1, (n, n))
    assert np.isfinite(bmatch.linear_sum_assignment(cost)[1]).all()
    cost[:3, 2:] = np.inf
    with pytest.raises(ValueError, match="the 3 rows 0, 1, 2 have finite entries in only 2 column"):
        bmatch.linear_sum_assignment(cost)
    cost[5, 6] = np.nan
    with pytest.raises(ValueError, match="nan in row 5, column 6;"):
        bmatch.linear_sum_assignment(cost)
    assert np.isinf(bmatch.solve(cost[5:], nonfinite="forbid").objective)
