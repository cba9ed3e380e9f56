"""Matrices with more columns than rows whose rows want the same columns."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from bmatch import _core

EVERY_WAY = (0, 2**40)  # entries up to which a matrix is small: none, all


def levels(draw):
    """Columns that are dear to every row, and others that are cheap."""
    return lambda r, n, m: draw(r, n, m) + r.standard_normal(m)


def two_values(r, n, m):
    return r.integers(0, 2, (n, m)).astype(float)


def distances(r, n, m):
    return np.hypot(*(r.random((2, n, 1)) - r.random((2, 1, m))))


def products(r, n, m):
    return np.outer(r.random(n), r.random(m))


def noisy_sums(r, n, m):
    return np.add.outer(r.random(n), r.random(m)) + 0.01 * r.random((n, m))


def worthless(r, n, m):
    """A third of the columns is worth nothing to any row."""
    return -r.random((n, m)) * (np.arange(m) < 2 * m // 3)


def integer_levels(r, n, m):
    return r.integers(0, 5, (n, m)) + r.integers(0, 10, m).astype(float)


MATRICES = {
    "two values": levels(two_values),
    "distances": levels(distances),
    "uniform": levels(lambda r, n, m: r.random((n, m))),
    "products": products,
    "noisy sums": noisy_sums,
    "worthless": worthless,
    "integers": integer_levels,
}


def proved(cost, small, threads=1):
    """The answer, once its duals have proved that it is optimal."""
    answer = _core.solve(cost, _core.Sense.minimize, threads, True, None, small=small)
    rows, cols = np.arange(len(cost)), answer.col_of_row
    assert len(set(cols)) == len(cost)
    scale = abs(cost).max()
    slack = cost - np.add.outer(answer.row_dual, answer.col_dual)
    assert slack.min() >= -1e-12 * scale
    assert slack[rows, cols].max() <= 1e-12 * scale
    assert answer.col_dual.max() <= 0.0
    assert not np.delete(answer.col_dual, cols).any()  # nobody pays for what nobody has
    return answer


@pytest.mark.parametrize("small", EVERY_WAY)
@pytest.mark.parametrize("name", MATRICES)
def test_rows_want_the_same_columns(name, small):
    for n, m in ((64, 70), (90, 200), (300, 400)):
        cost = MATRICES[name](np.random.default_rng(n), n, m)
        for dtype in (np.float32, np.float64):
            c = cost.astype(dtype)
            answer = proved(c.astype(np.float64), small)
            best = c[scipy.optimize.linear_sum_assignment(c)].sum(dtype=np.float64)
            assert answer.objective == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("two values", 120),  # of 234 from price zero, where paths go through all that are cheap
        ("distances", 40),  # 85
        ("uniform", 50),  # 219
        ("products", 15),  # 250
        ("noisy sums", 80),  # 247
        ("integers", 6),  # 10
    ],
)
def test_they_are_read_a_few_times(name, most):
    cost = MATRICES[name](np.random.default_rng(0), 500, 800)
    assert proved(cost, 0).stats["passes"] < most


@pytest.mark.parametrize("name", MATRICES)
def test_threads_find_the_same(name):
    cost = MATRICES[name](np.random.default_rng(1), 200, 300)
    assert (proved(cost, 0).col_of_row == proved(cost, 0, 3).col_of_row).all()


def test_small_ones_are_handed_on():
    cost = MATRICES["two values"](np.random.default_rng(0), 200, 300)
    assert proved(cost, 2**40).stats["passes"] > 3  # a small one counts one read


@settings(max_examples=150)
@given(
    st.integers(0, 10**9),
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from(sorted(MATRICES)),
    st.booleans(),
    st.floats(0.0, 0.9),
)
def test_any_of_them_whole_or_in_part(seed, n, more, name, whole, forbidden):
    """Whole numbers tie, and where pairs are forbidden there may be no answer."""
    r = np.random.default_rng(seed)
    cost = MATRICES[name](r, n, n + more)
    cost = np.round(4 * cost) if whole else cost
    cost = np.where(r.random(cost.shape) < forbidden, np.inf, cost) if seed % 3 == 0 else cost
    try:
        best = cost[scipy.optimize.linear_sum_assignment(cost)].sum()
    except ValueError:
        best = None
    for small in EVERY_WAY:
        answer = _core.solve(cost, _core.Sense.minimize, 1, True, None, small=small)
        if best is None:
            assert answer.outcome == _core.Outcome.infeasible
            reached = np.isfinite(cost[answer.trapped]).any(axis=0).sum()
            assert reached < len(set(answer.trapped.tolist())) == len(answer.trapped)
            continue
        assert cost[np.arange(n), answer.col_of_row].sum() == pytest.approx(
            best, rel=1e-9, abs=1e-9
        )
        assert answer.gap <= 1e-9 * max(1.0, abs(best))
        assert not np.delete(answer.col_dual, answer.col_of_row).any()
