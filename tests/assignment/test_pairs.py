"""The short way of the drop-in: it takes what libraries bring, and leaves no error to itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

import bmatch
from bmatch import _core

LAYOUTS = {
    "rows": np.ascontiguousarray,
    "columns": np.asfortranarray,
    "by index": lambda c: c[np.arange(len(c)), :][:, np.arange(c.shape[1])],
    "steps": lambda c: np.repeat(np.repeat(c, 2, 0), 3, 1)[::2, ::3],
    "backwards": lambda c: c[::-1, ::-1].copy()[::-1, ::-1],
    "lists": lambda c: c.tolist(),
    "tuples": lambda c: tuple(map(tuple, c.tolist())),
    "rows in a list": list,
}
DTYPES = ("f8", "f4", "f2", "i8", "u8", "i4", "u4", "i2", "u2", "i1", "u1", "?")


def pairs(cost, maximize=False, limit=math.inf):
    return _core.pairs(cost, maximize, 1, limit)


@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from(DTYPES),
    st.sampled_from(sorted(LAYOUTS)),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_every_layout_and_type_goes_the_short_way(n, m, dtype, layout, maximize, seed):
    cost = np.random.default_rng(seed).integers(0, 50, (n, m)).astype(dtype)
    stored = LAYOUTS[layout](cost)
    found = pairs(stored, maximize)
    assert found is not None
    rows, cols = found
    assert rows.dtype == cols.dtype == np.int64
    assert len(rows) == len(np.unique(cols)) == min(n, m)
    assert (np.diff(rows) > 0).all()
    best = scipy.optimize.linear_sum_assignment(cost, maximize)
    assert cost[rows, cols].sum(dtype=float) == cost[best].sum(dtype=float)
    np.testing.assert_array_equal(bmatch.solve(stored, maximize).col_ind, cols)  # in ties, too


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_match(shape):
    rows, cols = pairs(np.zeros(shape))
    assert rows.shape == cols.shape == (0,)
    assert rows.dtype == cols.dtype == np.int64


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_integers_go_it_as_far_as_float64_holds_them(dtype):
    cost = np.array([[2**53, 1], [5, 2**53]], dtype)
    np.testing.assert_array_equal(pairs(cost)[1], [1, 0])
    np.testing.assert_array_equal(pairs(cost, True)[1], [0, 1])
    cost[0, 0] += 1
    assert pairs(cost) is None
    if dtype == "i8":
        assert pairs(-cost) is None
        assert pairs(np.array([[np.iinfo(np.int64).min]])) is None


@pytest.mark.parametrize(
    "cost",
    [
        [[1, "2"]],
        [[1, None]],
        [[1], [2, 3]],
        [1, 2],
        [],
        [[2**70, 1]],
        [[1j]],
        np.array([[1.0, np.nan]]),
        [[math.nan, 1.0]],
        [[math.inf]],
        np.ones((2, 2), ">f8"),
        np.ones((2, 2), dtype=object),
        np.ones((2, 2, 2)),
        "ab",
        None,
    ],
)
def test_whatever_is_not_simple_is_left_to_the_general_way(cost):
    assert pairs(cost) is None


def test_a_list_of_rows_that_cannot_be_read_leaves_no_error_behind():
    class Broken:
        def __array__(self, *args, **kwargs):
            raise RuntimeError("broken")

    assert pairs([Broken(), Broken()]) is None
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        bmatch.linear_sum_assignment([Broken(), Broken()])
