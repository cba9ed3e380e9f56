"""Margins against brute force over all assignments."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import bmatch
from bmatch.assignment.costs import Costs, sense_of
from bmatch.assignment.margins import margins


def margins_of(cost, assignment, *, maximize=False, search_limit=None):
    costs = Costs.of(cost, sense_of(maximize, False))
    return margins(costs, assignment, search_limit=search_limit)


def brute_force_margins(cost):
    """What every row loses if its matched pair is forbidden, over all assignments. Minimising."""
    n, m = cost.shape
    best = bmatch.solve(cost)
    totals = [
        (sum(cost[i, p[i]] for i in range(n)), p) for p in itertools.permutations(range(m), n)
    ]
    return np.array(
        [
            min((t for t, p in totals if p[i] != best.col_of_row[i]), default=np.inf)
            - best.objective
            for i in range(n)
        ]
    )


@given(
    st.tuples(st.integers(1, 5), st.integers(0, 2)).flatmap(
        lambda s: hnp.arrays(
            np.float64, (s[0], s[0] + s[1]), elements=st.integers(-8, 8).map(float)
        )
    )
)
@settings(max_examples=200)
def test_margins_equal_brute_force(cost):
    a = bmatch.solve(cost)
    margin, exact = margins_of(cost, a)
    assert exact.all()
    assert np.allclose(margin, brute_force_margins(cost), atol=1e-9)
    mirrored, _ = margins_of(-cost, bmatch.solve(-cost, maximize=True), maximize=True)
    assert np.allclose(margin, mirrored, atol=1e-9)
    bounded, finished = margins_of(cost, a, search_limit=2)
    assert np.all(bounded <= margin + 1e-9)
    assert np.allclose(bounded[finished], margin[finished], atol=1e-9)


def test_margins_of_another_matrix_are_refused():
    cost = np.random.default_rng(0).random((9, 9))
    for other in (cost[:3, :3], cost[:3], np.random.default_rng(0).random((3, 3000))):
        with pytest.raises(ValueError, match=r"not one of this matrix, whose shape is \(9, 9\)"):
            margins_of(cost, bmatch.solve(other))


def test_margins_want_the_short_side_as_rows():
    cost = np.random.default_rng(0).random((4, 2))
    with pytest.raises(ValueError, match=r"shape \(4, 2\): pass the transpose"):
        margins_of(cost, bmatch.solve(cost))
