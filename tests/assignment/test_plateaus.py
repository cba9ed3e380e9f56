"""Matrices on which rows, or columns, would take many places at the same cost."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from bmatch import _core

EVERY_WAY = (0, 2**40)  # entries up to which a matrix is small: none, all


def zero_rows(r, n):
    return r.random((n, n)) * (np.arange(n) < 2 * n // 3)[:, None]


def extension(r, n):
    """What lap's cost_limit makes of half as many tracks and detections."""
    half = n // 2
    cost = np.full((n, n), 0.25)
    cost[:half, :half] = r.random((half, half))
    cost[half:, half:] = 0.0
    return cost


def copies(r, n):
    """Targets six times over, and no target for most queries."""
    cost = np.zeros((n, n))
    wanted = n // 18
    cost[:, : 6 * wanted] = np.repeat(r.standard_normal((n, wanted)) - 3.0, 6, axis=1)
    return cost


def gated(r, n):
    times = np.sort(r.random((2, n)), axis=1) * n
    return np.minimum(abs(times[0][:, None] - times[1]), 5.0)


def dead_units(r, n):
    x, y = (np.maximum(r.standard_normal((2 * n, n)) - 1.0, 0.0) for _ in range(2))
    x[:, : n // 5] = 0.0
    return -(x.T @ y)


def to_the_nearest(cost, count):
    """The largest everywhere but at the least so many of a row."""
    return np.where(cost > np.sort(cost, axis=1)[:, count - 1 : count], cost.max(), cost)


def reachable(r, n):
    x, y = r.standard_normal((n, 2)), 1.0 + r.standard_normal((n, 2))
    return to_the_nearest(((x[:, None] - y) ** 2).sum(axis=2), 20)


def reachable_from_tens(r, n):
    return to_the_nearest(r.random((n // 10 + 1, n))[np.arange(n) // 10], 5)


MATRICES = {
    f.__name__: f
    for f in (zero_rows, extension, copies, gated, dead_units, reachable, reachable_from_tens)
}


def solve(cost, small, sense=_core.Sense.minimize):
    return _core.solve(cost, sense, 1, True, None, small=small)


@pytest.mark.parametrize("small", EVERY_WAY)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", MATRICES)
def test_plateaus_of_rows_and_of_columns(name, turned, small):
    for n in (64, 150, 330):
        cost = MATRICES[name](np.random.default_rng(n), n)
        cost = np.ascontiguousarray(cost.T) if turned else cost
        answer = solve(cost, small)
        best = cost[scipy.optimize.linear_sum_assignment(cost)].sum()
        assert sorted(answer.col_of_row) == list(range(n))
        assert cost[np.arange(n), answer.col_of_row].sum() == pytest.approx(best, rel=1e-12)
        slack = cost - np.add.outer(answer.row_dual, answer.col_dual)
        assert slack.min() >= -1e-12 * abs(cost).max()


@pytest.mark.parametrize("name", ["reachable", "reachable_from_tens"])
def test_lists_end_at_the_plateau_of_what_is_out_of_reach(name):
    """They were read again for every bid, and paths over whole rows went through all in reach."""
    cost = MATRICES[name](np.random.default_rng(0), 1000)
    for c in (cost, np.ascontiguousarray(cost.T)):
        assert solve(c, 0).stats["passes"] < 30


def crowd(r, n):
    """Distances to those near, 0.7 to all others."""
    x, noise = r.random((n, 2)) * n**0.5 / 3, r.standard_normal((n, 2)) / 10
    return np.minimum(np.hypot(*(x[:, None] - (x + noise)[r.permutation(n)]).T), 0.7)


def hardly_allowed(r, n):
    cost = np.where(r.random((n, n)) < 0.9, 1e6, r.random((n, n)))
    cost[np.arange(n), r.permutation(n)] = r.random(n)
    return cost


def few_zeros(r, n):
    return np.where(r.random((n, n)) < 2.5 / n, 0.0, 1.0)


@pytest.mark.parametrize("draw", [crowd, hardly_allowed, few_zeros])
def test_few_entries_below_a_plateau_are_read_once(draw):
    """Whole rows read them 4 to 12 times."""
    cost = draw(np.random.default_rng(0), 600)
    for dtype in (np.float32, np.float64):
        c = cost.astype(dtype)
        answer = solve(c, 0)
        assert answer.stats["passes"] < 2
        best = c[scipy.optimize.linear_sum_assignment(c)].sum(dtype=np.float64)
        assert answer.objective == pytest.approx(best, rel=1e-6)


def test_small_matrices_are_handed_on_where_most_is_out_of_reach():
    cost = reachable(np.random.default_rng(0), 400)
    assert solve(cost, 2**40).stats["passes"] > 3  # a small one counts one read


@pytest.mark.parametrize("name", ["zero_rows", "extension", "copies"])
def test_paths_begin_on_the_side_that_is_no_plateau(name):
    """From the other one they come through most of the matrix, over and over."""
    cost = MATRICES[name](np.random.default_rng(0), 600)
    for c in (cost, np.ascontiguousarray(cost.T)):
        assert solve(c, 0).stats["passes"] < 30


def test_rows_whose_ties_give_each_a_column_are_claimed_at_once():
    """Though columns, which see the rows' shifts, are no plateaus."""
    r = np.random.default_rng(3)
    cost = r.integers(0, 2, (600, 600)) + 30.0 * r.standard_normal((600, 1))
    answer = solve(cost, 0)
    rows, cols = scipy.optimize.linear_sum_assignment(cost)
    assert answer.objective == pytest.approx(cost[rows, cols].sum(), abs=1e-9)
    assert answer.stats["passes"] < 2.5  # with the certificate's


def test_columns_that_others_all_want_next_are_priced_first():
    """A third of the rows find their only clear cost taken; the rest is much the same to all."""
    r = np.random.default_rng(3)
    cost = np.ones((600, 600))
    cost[np.arange(600), r.integers(0, 600, 600)] = 0.0
    cost *= r.lognormal(sigma=0.3, size=600)
    answer = solve(cost, 0)
    rows, cols = scipy.optimize.linear_sum_assignment(cost)
    assert answer.objective == pytest.approx(cost[rows, cols].sum(), rel=1e-12)
    assert answer.stats["passes"] < 6


def test_costs_of_columns_of_which_rows_may_have_a_few():
    """Rows want the cheapest of theirs; a bit more than half find it taken."""
    r = np.random.default_rng(3)
    cost = np.where(r.random((1000, 1000)) < 0.01, r.random(1000), 1e3)
    answer = solve(cost, 0)
    rows, cols = scipy.optimize.linear_sum_assignment(cost)
    assert answer.objective == pytest.approx(cost[rows, cols].sum(), rel=1e-12)
    assert answer.stats["passes"] < 10


def test_first_rows_are_not_put_off_where_all_tie():
    """Rows that pay the same everywhere took their columns, and each cost a path to get back."""
    cost = np.ones((600, 600))
    cost[:420, :420] = 0.0
    answer = solve(cost, 0)
    assert answer.objective == 180.0
    assert answer.stats["augmentations"] == 0
    assert answer.stats["passes"] < 4


@pytest.mark.parametrize("name", MATRICES)
def test_threads_do_not_share_columns_that_are_being_copied(name):
    cost = MATRICES[name](np.random.default_rng(2), 500)
    for c in (cost, np.ascontiguousarray(cost.T)):
        one, three = (_core.solve(c, _core.Sense.minimize, k, True, None, small=0) for k in (1, 3))
        assert (one.col_of_row == three.col_of_row).all()


@settings(max_examples=60)
@given(st.integers(0, 10**9), st.integers(64, 100), st.floats(0.02, 0.3))
def test_few_values_and_forbidden_pairs(seed, n, allowed):
    """Where nothing is complete, rows are told that compete, whichever side found out."""
    r = np.random.default_rng(seed)
    cost = np.where(r.random((n, n)) < allowed, r.integers(0, 3, (n, n)).astype(float), np.inf)
    cost[:, : n // 4] = r.choice([0.0, np.inf], n // 4, p=[0.8, 0.2])
    try:
        best = cost[scipy.optimize.linear_sum_assignment(cost)].sum()
    except ValueError:
        best = None
    for small in EVERY_WAY:
        answer = solve(cost, small)
        if best is None:
            assert answer.outcome == _core.Outcome.infeasible
            reached = np.isfinite(cost[answer.trapped]).any(axis=0).sum()
            assert reached < len(set(answer.trapped.tolist())) == len(answer.trapped)
        else:
            assert cost[np.arange(n), answer.col_of_row].sum() == best
            assert answer.gap == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_half_of_the_rows_may_tie_before_an_auction(seed):
    """As after prices of columns: Dice coefficients of masks were left to whole rows."""
    r = np.random.default_rng(seed)
    soft = 1 / (1 + np.exp(-3 * r.standard_normal((1024, 256))))
    mask = (r.random((1024, 256)) < r.uniform(0.01, 0.3, (1024, 1))).astype(float)
    cost = 1 - (2 * soft @ mask.T + 1) / (np.add.outer(soft.sum(1), mask.sum(1)) + 1)
    answer = solve(cost, 0)
    best = cost[scipy.optimize.linear_sum_assignment(cost)].sum()
    assert answer.objective == pytest.approx(best, rel=1e-12)
    assert answer.stats["passes"] < 8


@pytest.mark.parametrize("unit", [2.0**-40, 1.0, 2.0**40])
def test_rows_with_one_pair_bid_in_whatever_unit(unit):
    """They had bid 1.0, which dwarfs small costs: what followed was solved anew."""
    r = np.random.default_rng(0)
    allowed = r.random((1000, 1000)) < 0.004
    allowed[np.arange(1000), r.permutation(1000)] = True
    assert np.count_nonzero(allowed.sum(1) == 1) > 10
    answer = solve(np.where(allowed, unit * r.random((1000, 1000)), np.inf), 0)
    assert answer.outcome == _core.Outcome.optimal
    assert answer.stats["passes"] < 2
