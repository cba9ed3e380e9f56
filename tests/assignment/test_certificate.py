"""Certificates: what they prove of any solver's answer."""

from __future__ import annotations

import dataclasses
import itertools
from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

import bmatch
from bmatch import _core


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


def identity(n, row_dual, col_dual):
    same = np.arange(n)
    return bmatch.Assignment(same, same, same, row_dual, col_dual, 0.0, 0.0)


def test_a_matrix_with_nan_has_no_certificate():
    cost = np.array([[1, 0, np.nan], [0, 1, 5], [5, 5, 0.0]])
    answer = identity(3, np.array([1.0, 1, 0]), np.zeros(3))
    with pytest.raises(ValueError, match="nan in row 0, column 2;"):
        bmatch.certify(cost, answer)
    with pytest.raises(ValueError, match="-inf in row 0, column 2;"):
        bmatch.certify(np.where(np.isnan(cost), -np.inf, cost), answer)
    c = bmatch.certify(cost, answer, nonfinite="forbid")
    assert c.objective == 2
    assert c.min_reduced_cost == -1
    assert c.gap == c.objective - c.bound == 2  # [1, 0, 2] costs nothing


@pytest.mark.parametrize("dual", [np.nan, np.inf, -np.inf])
def test_duals_that_are_not_finite_prove_nothing(dual):
    for duals in ((np.full(2, dual), np.zeros(2)), (np.zeros(2), np.array([0, dual]))):
        c = bmatch.certify(np.eye(2), identity(2, *duals))
        assert c.objective == 2
        assert np.isnan([c.bound, c.gap, c.min_reduced_cost]).all()


def test_duals_of_the_longer_side_must_not_be_positive():
    cost = np.array([[1.0, 0.9]])
    first = bmatch.Assignment(
        np.array([0]), np.array([0]), np.array([0]), np.array([0.5]), np.array([0.5, 0]), 1.0, 0.0
    )
    c = bmatch.certify(cost, first)
    assert c.min_reduced_cost == -0.5
    assert c.gap == 0.5
    c = bmatch.certify(
        cost.T, dataclasses.replace(first, row_dual=first.col_dual, col_dual=first.row_dual)
    )
    assert c.min_reduced_cost == -0.5
    assert c.gap == 0.5


def test_a_forbidden_pair_costs_without_end():
    cost = np.array([[np.inf, 1.0], [1, 2]])
    c = bmatch.certify(cost, ([0, 1], [0, 1]))
    assert c.objective == c.gap == np.inf
    assert c.min_reduced_cost == 0
    assert bmatch.certify(cost, ([0, 1], [1, 0])).gap == 0


SMALL = np.array([[0.1, 0.9], [0.8, 0.2]])


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        ((np.array([True, False]), np.array([False, True])), TypeError, "dtype bool"),
        ((np.array([0.0, 1]), np.array([0.0, 1])), TypeError, "dtype float64"),
        (([[0, 1]], [[0, 1]]), TypeError, r"an array of shape \(1, 2\)"),
        (([0, 1, 2], [0, 1, 2]), ValueError, "no matching .* expected 2 distinct rows"),
        (([0, 1], [0, 2**40]), ValueError, "no matching of the matrix of shape"),
        (([], []), ValueError, "no matching of the matrix of shape"),
        (None, TypeError, "must be an Assignment or a pair"),
        (([0, 1],), TypeError, "must be an Assignment or a pair"),
    ],
)
def test_pairs_that_are_none_are_refused_in_a_sentence(pairs, error, message):
    with pytest.raises(error, match=message):
        bmatch.certify(SMALL, pairs)


def test_pairs_of_every_kind():
    assert bmatch.certify(np.zeros((0, 5)), ([], [])).objective == 0
    assert bmatch.certify(SMALL, (range(2), np.arange(2, dtype=np.uint8))).gap == 0
    with pytest.raises(ValueError, match="expected 1 distinct row and as many distinct columns"):
        bmatch.certify(SMALL[:1], ([0, 0], [0, 1]))
    with pytest.raises(ValueError, match=r"have shapes \(3,\) and \(2,\), expected \(2,\) and"):
        bmatch.certify(SMALL, identity(2, np.zeros(3), np.zeros(2)))


def exact_loss(cost, cols):
    """What an assignment of all rows is worse by than the best of all, in rational numbers."""
    exact = [[Fraction(x) for x in row] for row in cost.tolist()]
    n, m = cost.shape
    best = min(sum(exact[i][p[i]] for i in range(n)) for p in itertools.permutations(range(m), n))
    return sum(exact[i][j] for i, j in enumerate(cols)) - best


@given(st.integers(0, 10**9), st.integers(2, 5), st.integers(0, 1), st.sampled_from([0, 2**16]))
@settings(max_examples=300, deadline=None)
def test_no_rounding_is_hidden_from_the_gap(seed, n, more, small):
    """Sums of a and b that are equal but for their roundings: all assignments nearly tie."""
    r = np.random.default_rng(seed)
    cost = r.standard_normal((n, 1)) + r.choice([1.0, 1e3]) * r.standard_normal(n + more)
    if seed % 2:
        cost = cost.round(1) + 0.1 * r.integers(0, 2, cost.shape)
    solved = _core.solve(cost, _core.Sense.minimize, 1, True, None, small=small)
    loss = exact_loss(cost, solved.col_of_row)
    assert 0 <= loss <= Fraction(solved.gap) * (1 + Fraction(1, 2**40))
    assert solved.gap <= 1e-11
    for answer in (bmatch.solve(cost), (np.arange(n), solved.col_of_row)):
        c = bmatch.certify(cost, answer)
        cols = answer.col_ind if isinstance(answer, bmatch.Assignment) else solved.col_of_row
        assert exact_loss(cost, cols) <= Fraction(c.gap) * (1 + Fraction(1, 2**40))
        assert c.gap <= 1e-11


def test_the_gap_is_zero_where_nothing_is_rounded():
    r = np.random.default_rng(0)
    for cost in (
        r.random((30, 30)).astype(np.float32),
        r.standard_normal((30, 50)).astype(np.float32),
        r.integers(0, 50, (500, 500)),
        r.integers(0, 50, (500, 520)),
    ):
        a = bmatch.solve(cost)
        assert a.gap == 0
        assert bmatch.certify(cost, a).gap == 0
