"""The theorems of docs/theorem.md, by brute force over all permutations, and the simulations."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import ceiling
from benchmarks.interval import Interval

D = 5
ALL = np.array([*itertools.permutations(range(D))])


def best(matrix):
    """Every optimum of raw matching, [k, D]; partners lie on the diagonal."""
    sums = matrix[np.arange(D), ALL].sum(axis=1)
    return ALL[sums >= sums.max() - 1e-12]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, D), st.sampled_from([3.001, 5.001]))
def test_theorem_2(seed, negative, bound):
    rng = np.random.default_rng(seed)
    sign = rng.permutation(np.where(np.arange(D) < negative, -1, 1))
    matrix = rng.choice([-1.0, 1.0, 0.3], (D, D))  # at the bound wherever it can be
    np.fill_diagonal(matrix, sign * bound * rng.choice([1.0, 1.4], D))
    for found in best(matrix):
        right = found == np.arange(D)
        assert not right[sign < 0].any()
        if bound > 5:
            assert right[sign > 0].all()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.floats(0.01, 1))
def test_theorem_1_and_3_at_any_correlation(seed, factors, own):
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(D, factors))
    covariance = loadings @ loadings.T + own**2 * np.eye(D)
    spread = np.sqrt(np.diag(covariance))
    sign = rng.choice([-1, 1], D)
    rho = rng.uniform(0.3, 1, (D, 1))
    matrix = sign[:, None] * rho * covariance / np.outer(spread, spread)
    for found in best(matrix):
        assert (found == np.arange(D))[sign < 0].sum() <= 1
    for found in best(np.abs(matrix)):
        assert (found == np.arange(D)).all()


def test_what_the_conditions_exclude():
    """One negative row may be right; without condition A so may two."""
    lone = np.full((D, D), -0.1)
    np.fill_diagonal(lone, [-0.9, *[0.9] * (D - 1)])
    assert (best(lone) == np.arange(D)).all()
    matrix = np.array([[-0.2, -0.9], [-0.9, -0.2]])
    assert np.trace(matrix) > matrix[0, 1] + matrix[1, 0]


@given(st.integers(0, 2**32 - 1), st.integers(1, D - 1))
def test_theorem_4(seed, positive):
    """Mean and variance over every placing of the signs."""
    product = np.random.default_rng(seed).normal(size=D) + 0.5
    if abs(product.sum()) < 1e-3:
        return
    kept = []
    for places in itertools.combinations(range(D), positive):
        sign = -np.ones(D)
        sign[list(places)] = 1
        kept.append(sign @ product / product.sum())
    fraction = positive / D
    np.testing.assert_allclose(np.mean(kept), 2 * fraction - 1, atol=1e-9 * np.ptp(kept) + 1e-9)
    foretold = ceiling.foretold_spread(product, fraction)
    np.testing.assert_allclose(np.std(kept), foretold, rtol=1e-6, atol=1e-9)


def test_planted_gauges_and_exact_correlations():
    rng = np.random.default_rng(0)
    gauge = ceiling.planted(40, 0.3, rng)
    assert (gauge.sign == 1).sum() == 12
    shared = ceiling.factor_model(6, 2, 0.7, rng)
    mix = ceiling.mixed(6, 0.4, rng)
    assert np.diag(shared).tolist() == [1] * 6
    many = ceiling.sampled(shared, mix, 200_000, rng)
    np.testing.assert_allclose(ceiling.exact(shared, mix), many, atol=0.01)


def test_a_matching_counts_what_is_right():
    rng = np.random.default_rng(1)
    gauge = ceiling.planted(20, 0.5, rng)
    found = ceiling.matched(0.9 * np.eye(20), np.eye(20), gauge)
    assert found == (0.5, 1.0, 0.0, 0.0)


def test_means_have_students_intervals():
    *mean, runs = Interval.of([1.0, 2.0, 3.0])
    reach = 4.302653 / math.sqrt(3)  # the table's t for two degrees of freedom
    np.testing.assert_allclose(mean, [2.0, 2 - reach, 2 + reach], rtol=1e-6)
    assert runs == 3
