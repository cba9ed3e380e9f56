"""lap's sparse function: values recorded from lap 0.5.13, and SciPy's on the dense matrix."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from bmatch.compat import lap

SQUARE = (2, np.array([1.0, 2.0, 3.0]), np.array([0, 1, 3]), np.array([0, 0, 1]))


def test_recorded_answers():
    opt, x, y = lap.lapmod(*SQUARE)
    assert type(opt) is float
    assert x.dtype == y.dtype == np.int32
    assert (opt, x.tolist(), y.tolist()) == (4.0, [0, 1], [0, 1])
    assert [part.tolist() for part in lap.lapmod(*SQUARE, return_cost=False)] == [[0, 1], [0, 1]]
    assert lap.lapmod(*SQUARE, True, True, lap.FP_1)[0] == 4.0
    two_for_one = lap.lapmod(2, np.array([1.0, 2.0]), np.array([0, 1, 2]), np.array([0, 0]))
    assert two_for_one[0] == np.inf
    assert sorted(two_for_one[1]) == sorted(two_for_one[2]) == [0, 1]


ERRORS = [
    ((0, [], [0], []), "Cost matrix has zero rows"),
    ((2, [], [0, 0, 0], []), "Cost matrix has zero columns"),
    ((2, [-1.0, 1], [0, 1, 2], [0, 1]), "Cost matrix values must be non-negative"),
    ((2, [np.nan, 1], [0, 1, 2], [0, 1]), "Cost matrix values must be non-negative"),
    ((2, [1.0, lap.LARGE], [0, 1, 2], [0, 1]), "Cost matrix values must be less than 1000000"),
    ((2, [1.0, np.inf], [0, 1, 2], [0, 1]), "Cost matrix values must be less than 1000000"),
    ((2, [1.0, 2.0], [0, 1], [0, 1]), "indptr of the sparse cost matrix"),
    ((2, [1.0, 2.0], [0, 1, 2], [0, 2]), "indices of the sparse cost matrix runs from 0 to 2"),
    ((2, [1.0, 2.0], [0, 1, 2], [0]), "indices of the sparse cost matrix has shape"),
]


@pytest.mark.parametrize(("arguments", "message"), ERRORS)
def test_errors(arguments, message):
    n, cc, ii, kk = arguments
    with pytest.raises(ValueError, match=message):
        lap.lapmod(n, np.array(cc, float), np.array(ii), np.array(kk, int))


@given(st.integers(1, 12), st.floats(0.1, 1), st.integers(0, 2**32), st.sampled_from([int, float]))
@settings(max_examples=300, deadline=None)
def test_the_optimum_is_that_of_the_dense_matrix(n, density, seed, kind):
    r = np.random.default_rng(seed)
    allowed = r.random((n, n)) < density
    allowed[0, 0] = True
    cost = r.integers(0, 40, (n, n)).astype(kind)
    ii = np.concatenate([[0], np.cumsum(allowed.sum(axis=1))])
    opt, x, y = lap.lapmod(n, cost[allowed], ii, np.nonzero(allowed)[1])
    assert np.array_equal(y[x], np.arange(n))
    chosen = np.arange(n), x
    try:
        pairs = scipy.optimize.linear_sum_assignment(np.where(allowed, cost, np.inf))
    except ValueError:
        assert opt == np.inf
        fewest = scipy.optimize.linear_sum_assignment(~allowed)
        assert np.sum(~allowed[chosen]) == np.sum(~allowed[fewest])
    else:
        assert opt == cost[pairs].sum() == cost[chosen].sum()
        assert np.all(allowed[chosen])
