"""lap's function: values recorded from lap 0.5.13 and lapx 0.11.1, and its extension by SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bmatch.compat import lap

INF = np.inf
WIDE = np.array([[1.0, 2, 3], [2, 1, 5]])

# What both packages return; lap wants extend_cost=True beside a limit where lapx does not.
RECORDED = {
    "square": (WIDE[:, :2], {}, (2.0, [0, 1], [0, 1])),
    "wide": (WIDE, {"extend_cost": True}, (2.0, [0, 1], [0, 1, -1])),
    "tall, limited": (
        WIDE.T,
        {"extend_cost": True, "cost_limit": 1.5},
        (2.0, [0, 1, -1], [0, 1]),
    ),
    "limit below all": (WIDE[:, :2], {"cost_limit": -5}, (0.0, [-1, -1], [-1, -1])),
    "limit of zero": (WIDE[:, :2], {"cost_limit": 0}, (0.0, [-1, -1], [-1, -1])),
    "one column for two rows": (
        np.array([[INF, 1], [INF, 2]]),
        {"cost_limit": 5.0},
        (1.0, [1, -1], [-1, 0]),
    ),
    "no rows": (np.zeros((0, 3)), {"extend_cost": True}, (0.0, [], [-1, -1, -1])),
    "no columns": (np.zeros((3, 0)), {"cost_limit": 2.0}, (0.0, [-1, -1, -1], [])),
    "nothing": (np.zeros((0, 0)), {}, (0.0, [], [])),
    "float32": (WIDE[:, :2].astype(np.float32), {}, (2.0, [0, 1], [0, 1])),
    "integers": (
        np.array([[1000, 4, 1], [1, 1000, 3], [5, 1, 1000]]),
        {},
        (3, [2, 0, 1], [1, 2, 0]),
    ),
    "objects": (WIDE[:, :2].astype(object), {}, (2.0, [0, 1], [0, 1])),
    "strides": (np.arange(12.0).reshape(3, 4)[::-1, ::2], {"extend_cost": True}, None),
}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_answers(name):
    cost, options, expected = RECORDED[name]
    opt, x, y = lap.lapjv(cost, **options)
    assert type(opt) is float
    assert x.dtype == y.dtype == np.int32
    assert (len(x), len(y)) == cost.shape
    if expected is not None:
        assert (opt, x.tolist(), y.tolist()) == expected
    without = lap.lapjv(cost, **options, return_cost=False)
    assert len(without) == 2
    assert np.array_equal(without[0], x)
    assert np.array_equal(without[1], y)


@pytest.mark.parametrize("limit", [INF, 3.0])
def test_arguments_by_position(limit):
    assert lap.lapjv(WIDE, True, limit, True)[0] == 2.0
    assert len(lap.lapjv(WIDE, True, limit, False)) == 2


UNSOLVABLE = {
    "a column": [[INF, 1, 2], [INF, 2, 3], [INF, 1, 1]],
    "a row": [[INF, INF, INF], [1, 2, 3], [1, 1, 1]],
    "three for two": [[0, 1, INF], [INF, INF, 0], [INF, INF, 1]],
    "all": np.full((3, 3), INF),
}


@pytest.mark.parametrize("name", UNSOLVABLE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_unsolvable_matrix_costs_infinity(name, dtype):
    cost = np.array(UNSOLVABLE[name], dtype=dtype)
    opt, x, y = lap.lapjv(cost)
    assert opt == INF
    assert sorted(x) == sorted(y) == [0, 1, 2]
    assert np.array_equal(y[x], [0, 1, 2])
    forbidden = np.isinf(cost)
    fewest = forbidden[scipy.optimize.linear_sum_assignment(forbidden)].sum()
    assert forbidden[range(3), x].sum() == fewest


ERRORS = [
    (np.zeros(3), {}, "2-dimensional array expected"),
    (np.zeros((2, 3)), {}, "Square cost array expected. If cost is intentionally non-square, pass"),
    (np.zeros((2, 2)), {"cost_limit": np.nan}, "cost_limit must be finite or positive infinity"),
    (np.zeros((2, 2)), {"cost_limit": -INF}, "cost_limit must be finite or positive infinity"),
    (np.full((2, 2), np.nan), {}, "matrix contains invalid numeric entries"),
    (np.full((2, 2), np.nan), {"cost_limit": 1.0}, "matrix contains invalid numeric entries"),
    (np.array([[-INF, INF], [0, INF]]), {}, "matrix contains invalid numeric entries"),
]


@pytest.mark.parametrize(("cost", "options", "message"), ERRORS)
def test_errors(cost, options, message):
    with pytest.raises(ValueError, match=message):
        lap.lapjv(cost, **options)


def test_a_limit_that_is_no_number():
    with pytest.raises(TypeError):
        lap.lapjv(np.zeros((2, 2)), cost_limit=None)


def extension(cost, limit):
    """[[C, L/2], [L/2, 0]], whose optimum lap returns."""
    n, m = cost.shape
    extended = np.full((n + m, n + m), limit / 2)
    extended[:n, :m] = cost
    extended[n:, m:] = 0
    return extended


entries = st.one_of(
    st.integers(-3, 6).map(float), st.floats(-1e3, 1e3, width=32), st.just(1.0), st.just(INF)
)
matrices = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=entries,
)


@given(matrices, st.one_of(st.integers(-3, 6).map(float), st.floats(-1e3, 1e3)))
@settings(max_examples=400, deadline=None)
def test_a_limit_gives_the_optimum_of_the_extension(cost, limit):
    opt, x, y = lap.lapjv(cost, cost_limit=limit)
    rows = np.flatnonzero(x >= 0)
    assert np.array_equal(y[x[rows]], rows)
    assert np.sum(y >= 0) == len(rows)
    assert np.all(cost[rows, x[rows]] <= limit)
    assert opt == cost[rows, x[rows]].astype(np.float64).sum()
    extended = extension(cost, limit)
    expected = extended[scipy.optimize.linear_sum_assignment(extended)].sum()
    alone = np.sum(x < 0) + np.sum(y < 0)
    scale = np.abs(extended[np.isfinite(extended)]).max()
    assert opt + alone * limit / 2 == pytest.approx(expected, rel=1e-12, abs=1e-12 * scale)


@given(matrices)
@settings(max_examples=200, deadline=None)
def test_without_a_limit_it_is_scipys_optimum(cost):
    opt, x, _ = lap.lapjv(cost, extend_cost=True)
    try:
        pairs = scipy.optimize.linear_sum_assignment(cost)
    except ValueError:
        assert opt == INF
        assert np.sum(x >= 0) == min(cost.shape)
    else:
        expected = cost[pairs].astype(np.float64).sum()
        assert opt == pytest.approx(expected, rel=1e-12, abs=1e-10)


def test_a_limit_that_float32_would_round():
    """An entry just above the limit in float64 is above it, whatever the matrix is stored as."""
    entry = np.float32(0.1)  # 0.10000000149...
    cost = np.array([[entry]], dtype=np.float32)
    assert lap.lapjv(cost, cost_limit=0.1)[1].tolist() == [-1]
    assert lap.lapjv(cost, cost_limit=float(entry) + 1e-12)[1].tolist() == [0]
