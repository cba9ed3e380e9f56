"""The solver against SciPy on drawn problems, by every route and every instruction set."""

from __future__ import annotations

import os

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

import bmatch
from bmatch import _core

EXAMPLES = int(os.environ.get("BMATCH_FUZZ_EXAMPLES", "400"))
"""Examples a test; set it high for a long run by hand."""

FAMILIES = {
    "uniform": lambda r, n, m: r.random((n, m)),
    "ties": lambda r, n, m: r.integers(0, r.integers(1, 200), (n, m)).astype(float),
    "difference": lambda r, n, m: np.abs(r.random((n, 1)) - r.random(m)),
    "sum": lambda r, n, m: r.random((n, 1)) + r.random(m),
    "product": lambda r, n, m: r.random((n, 1)) * r.random(m),
    "spatial": lambda r, n, m: np.linalg.norm(r.random((n, 1, 2)) - r.random((m, 2)), axis=-1),
    "lowrank": lambda r, n, m: -np.abs(r.standard_normal((n, 4)) @ r.standard_normal((4, m))),
    "equal rows": lambda r, n, m: np.tile(r.random(m), (n, 1)),
    "equal columns": lambda r, n, m: np.tile(r.random((n, 1)), (1, m)),
    "blocks": lambda r, n, m: np.kron(r.random((n // 8 + 1, m // 8 + 1)), np.ones((8, 8)))[:n, :m],
    "logarithmic": lambda r, n, m: 10.0 ** r.uniform(-20, 20, (n, m)),
    "wide range": lambda r, n, m: 10.0 ** r.uniform(-300, 300, (n, m)),
    "denormal": lambda r, n, m: r.random((n, m)) * 1e-310,
    "scaled": lambda r, n, m: r.standard_normal((n, m)) * 10.0 ** r.integers(-30, 30),
    "mostly forbidden": lambda r, n, m: np.where(
        r.random((n, m)) < 0.1, r.integers(1, 99, (n, m)) + r.integers(0, 99, m), 2.0**31
    ),
    "sparse": lambda r, n, m: np.where(r.random((n, m)) < 0.03, r.random((n, m)), 1e6),
    "identity": lambda r, n, m: 1.0 - np.eye(n, m)[r.permutation(n)],
}


@pytest.fixture(params=_core.instruction_sets(), scope="module", autouse=True)
def _instruction_set(request):
    before = _core.instruction_set()
    _core.use(request.param)
    yield
    _core.use(before)


@st.composite
def problems(draw):
    r = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(1, 40)) if draw(st.booleans()) else draw(st.integers(1, 150))
    m = n + draw(st.sampled_from([0, 0, 0, 1, 2, n // 8, n, 3 * n]))
    cost = FAMILIES[draw(st.sampled_from(sorted(FAMILIES)))](r, n, m)
    if draw(st.booleans()):
        with np.errstate(over="ignore"):
            single = cost.astype(np.float32)
        if np.isfinite(single).all():
            cost = single
    if draw(st.integers(0, 3)) == 0:
        cost = np.where(r.random((n, m)) < r.random(), cost.dtype.type(np.inf), cost)
    layout = draw(st.integers(0, 3))
    if layout == 1:
        cost = np.asfortranarray(cost)
    elif layout == 2:
        spread = np.zeros((n, 3 * m), dtype=cost.dtype)
        spread[:, ::3] = cost
        cost = spread[:, ::3]
    elif layout == 3:
        cost = np.ascontiguousarray(cost[::-1, ::-1])[::-1, ::-1]
    return cost


@given(problems(), st.booleans(), st.sampled_from([0, 2**16]), st.integers(1, 3))
@settings(max_examples=EXAMPLES, deadline=None)
def test_objective_and_certificate(cost, maximize, small, threads):
    """`small` 0 sends small problems the way of large ones."""
    stored = -cost if maximize else cost
    sense = _core.Sense.maximize if maximize else _core.Sense.minimize
    solved = _core.solve(stored, sense, threads, True, None, small=small)
    try:
        expected = cost[scipy.optimize.linear_sum_assignment(cost)].astype(np.float64).sum()
    except ValueError:
        assert solved.outcome == _core.Outcome.infeasible
        assert np.isfinite(cost[solved.trapped]).any(axis=0).sum() < len(solved.trapped)
        return
    assert solved.outcome == _core.Outcome.optimal
    n, m = cost.shape
    c = cost.astype(np.float64)
    scale = np.abs(c[np.isfinite(c)]).max()
    col_of_row, u, v = solved.col_of_row, solved.row_dual, solved.col_dual
    assert sorted(col_of_row) == sorted(set(col_of_row))
    assert solved.objective == pytest.approx(expected, rel=1e-12, abs=0)
    assert c[np.arange(n), col_of_row].sum() == pytest.approx(expected, rel=1e-12, abs=0)
    assert (c - u[:, None] - v).min() >= -1e-12 * scale
    assert 0 <= solved.gap <= 1e-12 * abs(solved.objective) + n * np.spacing(scale)
    if n < m:
        assert np.all(v <= 0)
        assert np.all(np.delete(v, col_of_row) == 0)


@given(st.sampled_from(sorted(FAMILIES)), st.integers(0, 2**32), st.floats(0, 1))
@settings(max_examples=EXAMPLES // 4, deadline=None)
def test_warm_start_is_only_a_start(family, seed, change):
    r = np.random.default_rng(seed)
    n = int(r.integers(2, 300))
    before = FAMILIES[family](r, n, n)
    after = before * (1 + change * r.random((n, n)))
    a = bmatch.solve(after, warm_start=bmatch.solve(before))
    expected = after[scipy.optimize.linear_sum_assignment(after)].sum()
    assert a.objective == pytest.approx(expected, rel=1e-12, abs=0)
