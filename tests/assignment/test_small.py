"""Matrices that are read where they are give the very answers of their copies."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize

import bmatch

SHAPES = [(200, 200), (200, 203), (193, 193), (192, 205)]  # with and without a part of a vector


def of_few_meetings(rng, rows, cols):
    """Rows whose least costs lie in different columns, as far as that decides: read in place."""
    cost = rng.random((rows, cols)) + 1
    cost[np.arange(rows), rng.permutation(cols)[:rows]] = rng.integers(0, 3, rows)
    return cost


def of_many(rng, rows, cols):
    return rng.random((rows, cols))


def of_ties(rng, rows, cols):
    return np.minimum(of_few_meetings(rng, rows, cols), rng.integers(1, 3, (rows, cols)))


def of_plateaus(rng, rows, cols):
    return np.where(rng.random((rows, cols)) < 0.02, rng.random((rows, cols)), 1.0)


FAMILIES = [of_few_meetings, of_many, of_ties, of_plateaus]


def inside(cost):
    """As part of a matrix that is broken all around."""
    whole = np.full(np.add(cost.shape, (2, 16)), np.nan, cost.dtype)
    whole[1:-1, 8:-8] = cost
    return whole[1:-1, 8:-8]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("family", FAMILIES)
def test_where_rows_lie_does_not_change_the_answer(family, dtype, shape):
    cost = family(np.random.default_rng(3), *shape).astype(dtype)
    for stored, maximize in ((cost, False), (-cost, True)):
        found = bmatch.solve(stored, maximize=maximize)
        copied = bmatch.solve(inside(stored), maximize=maximize)
        np.testing.assert_array_equal(found.col_ind, copied.col_ind)
        assert found.objective == copied.objective
        turned = bmatch.solve(np.asfortranarray(stored), maximize=maximize)  # may begin at columns
        np.testing.assert_allclose(turned.objective, found.objective, rtol=1e-12)
        assert abs(found.gap) <= 1e-12 * abs(found.objective)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("at", [(0, 0), (0, -1), (-1, -1), (100, 7), (-2, -1)])
def test_nan_is_found_wherever_it_is(at, shape):
    cost = of_few_meetings(np.random.default_rng(5), *shape)
    cost[at] = np.nan
    row, col = np.arange(shape[0])[at[0]], np.arange(shape[1])[at[1]]
    with pytest.raises(ValueError, match=rf"row {row}, column {col}"):
        bmatch.solve(cost)
    cost[at] = -np.inf
    with pytest.raises(ValueError, match="invalid numeric entries"):
        bmatch.solve(cost)


def test_a_forbidden_last_entry_stays_forbidden():
    rows, cols = 200, 203
    cost = of_few_meetings(np.random.default_rng(7), rows, cols)
    cost[-1] = np.inf
    cost[-1, -1] = 5.0
    assert bmatch.solve(cost).col_ind[-1] == cols - 1
    cost[-1, -1] = np.inf
    with pytest.raises(ValueError, match="infeasible"):
        bmatch.solve(cost)


@pytest.mark.parametrize("n", [300, 350, 400])
def test_bids_alone_settle_rows_with_one_clear_cost(n):
    """Prices of free columns all came of the few rows without one, and left hard paths to find."""
    logits = np.exp(6 * np.random.default_rng(n).standard_normal((n, n)))
    cost = -logits / logits.sum(axis=1, keepdims=True)
    found = bmatch.solve(cost)
    assert found.stats["augmentations"] <= 2
    best = cost[scipy.optimize.linear_sum_assignment(cost)].sum()
    assert found.objective == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("allowed", [0.03, 0.1, 0.5])
@pytest.mark.parametrize("n", [300, 700])  # small, and by lists
def test_costs_of_columns_alone_are_their_prices(n, allowed):
    """A row's least cost says which columns it may have, and prices made of it nothing else."""
    r = np.random.default_rng(n)
    possible = r.random((n, n)) < allowed
    possible[np.arange(n), r.permutation(n)] = True
    cost = np.where(possible, r.random(n), np.inf)
    found = bmatch.solve(cost)
    assert found.stats["augmentations"] < n / 10
    assert found.objective == pytest.approx(np.nanmin(cost, axis=0).sum(), rel=1e-12)


@pytest.mark.parametrize("n", [8, 16, 32, 100])
@pytest.mark.parametrize("never", [1e6, 1e9])
def test_prices_of_what_is_never_wanted_are_not_in_the_answer(n, never):
    """They would be so large that their rounding leaves the answer in doubt."""
    for seed in range(20):
        r = np.random.default_rng(seed)
        cost = np.where(r.random((n, n)) < 0.6, r.random((n, n)), never)
        cost[np.arange(n), r.permutation(n)] = r.random(n)
        found = bmatch.solve(cost)
        assert found.stats["passes"] <= 2  # its own, and the certificate's
        assert np.abs(found.col_dual).max() < n
        best = cost[scipy.optimize.linear_sum_assignment(cost)].sum()
        assert found.objective == pytest.approx(best, rel=1e-13)
        assert abs(found.gap) <= 1e-14 * n
