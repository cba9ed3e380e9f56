"""Sparse matrices of which rows and columns may stay unmatched, against the dense solver and lap's
extension."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from optimality import SENSES, minimised, scipy_objective

import bmatch


def entries_of(cost, rng, kind="coo", doubled=False):
    """The finite entries in random order; each in two parts if `doubled`."""
    row, col = np.nonzero(np.isfinite(cost))
    data = cost[row, col]
    if doubled:
        part = rng.integers(-9, 9, len(data))
        row, col, data = np.tile(row, 2), np.tile(col, 2), np.concatenate([data - part, part])
    order = rng.permutation(len(row))
    parts = SimpleNamespace(row=row[order], col=col[order], data=data[order], shape=cost.shape)
    if kind == "coo":
        return parts
    return scipy.sparse.coo_matrix((parts.data, (parts.row, parts.col)), cost.shape).asformat(kind)


def assert_proved(entries, cost, answer, sense, low):
    """Pairs are a matching of entries, duals prove them, and nothing says otherwise."""
    flip = 1 if sense == "minimize" else -1
    c = minimised(cost, sense)
    n, m = c.shape
    matched = c[answer.row_ind, answer.col_ind]
    assert np.all(matched < np.inf)
    assert np.all(np.diff(answer.row_ind) > 0)
    assert len(np.unique(answer.col_ind)) == len(answer.col_ind)
    of_row = np.full(n, -1)
    of_row[answer.row_ind] = answer.col_ind
    assert np.array_equal(answer.col_of_row, of_row)
    assert answer.objective == pytest.approx(flip * matched.sum(), rel=1e-12, abs=1e-300)
    scale = max(np.abs(c[np.isfinite(c)]).max(initial=abs(low)), 1e-300)
    proof = bmatch.certify(entries, answer, **SENSES[sense])
    assert proof.objective == pytest.approx(answer.objective, rel=1e-15)
    assert 0 <= answer.gap <= 1e-12 * scale * max(n, m)
    assert abs(proof.gap) <= 1e-12 * scale * max(n, m)
    assert proof.min_reduced_cost >= -1e-12 * scale
    if sense == "magnitude":
        signs = np.where(cost[answer.row_ind, answer.col_ind] < 0, -1, 1)
        assert np.array_equal(answer.sign, signs)
    return matched


def assert_limited(entries, cost, limit, sense="minimize"):
    """The extension's optimum, which is the dense solver's."""
    a = bmatch.solve(entries, cost_limit=limit, **SENSES[sense])
    flip = 1 if sense == "minimize" else -1
    low = flip * limit
    matched = assert_proved(entries, cost, a, sense, low)
    assert np.all(matched <= low)
    c = minimised(cost, sense)
    n, m = c.shape
    extension = np.full((n + m, n + m), low / 2)
    extension[:n, :m] = np.where(np.isinf(c), 1e7, c)
    extension[n:, m:] = 0
    total = matched.sum() + low / 2 * (n + m - 2 * len(matched))
    scale = max(np.abs(c[np.isfinite(c)]).max(initial=abs(low)), 1e-300)
    assert total == pytest.approx(scipy_objective(extension), rel=1e-12, abs=1e-12 * scale)
    u, v = flip * a.row_dual, flip * a.col_dual
    assert max(u.max(initial=-np.inf), v.max(initial=-np.inf)) <= low / 2 + 1e-12 * scale
    assert np.all(u[a.col_of_row < 0] == low / 2)
    assert np.all(np.delete(v, a.col_ind) == low / 2)
    assert a.cost_limit == limit
    assert not a.partial
    return a


def assert_most(entries, cost, sense="minimize"):
    """As many pairs as the dense solver has, and of the same sum."""
    a = bmatch.solve(entries, partial=True, **SENSES[sense])
    matched = assert_proved(entries, cost, a, sense, 0.0)
    dense = bmatch.solve(minimised(cost, sense), partial=True)
    assert len(matched) == len(dense.row_ind)
    assert matched.sum() == pytest.approx(dense.objective, rel=1e-12, abs=1e-12)
    assert a.partial == (len(matched) < min(cost.shape))
    return a


@st.composite
def matrices(draw):
    n, m = draw(st.tuples(st.integers(0, 9), st.integers(0, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    most = draw(st.sampled_from([1, 5, 40]))
    cost = rng.integers(-most, most, (n, m), endpoint=True).astype(float)
    return np.where(rng.random((n, m)) < draw(st.sampled_from([0.1, 0.4, 1.0])), cost, np.inf), rng


kinds = st.sampled_from(["coo", "csr", "csc"])


@settings(max_examples=300, deadline=None)
@given(
    matrices(),
    st.integers(-45, 45),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([*SENSES]),
    kinds,
    st.booleans(),
)
def test_limits_from_below_all_entries_to_above_all(made, limit, more, sense, kind, doubled):
    cost, rng = made
    assert_limited(entries_of(cost, rng, kind, doubled), cost, limit + more, sense)


def test_columns_that_are_left_out_have_no_price_left_by_rounding():
    text = """30 33 -24 -37 5 40 38 29 -14, 2 -13 -34 20 -4 37 6 8 30,
    -38 -14 12 -14 26 -22 10 -23 -5, 10 -33 37 12 23 -2 39 -37 -40,
    22 27 6 12 -20 20 24 -38 -10, 3 1 -33 -20 -13 -21 -32 39 2,
    -6 -10 -22 4 -15 -21 -29 32 -4, 3 -32 24 -23 -20 9 -26 33 22, -30 -24 16 -25 34 17 -35 4 1"""
    cost = np.array([row.split() for row in text.split(",")], float)
    assert_limited(entries_of(cost, np.random.default_rng(0)), cost, 8.1, "maximize")


@settings(max_examples=300, deadline=None)
@given(matrices(), st.sampled_from([*SENSES]), kinds, st.booleans())
def test_most_pairs_and_the_cheapest_of_those(made, sense, kind, doubled):
    cost, rng = made
    assert_most(entries_of(cost, rng, kind, doubled), cost, sense)


@pytest.mark.parametrize("shape", [(500, 500), (420, 600), (600, 420)])
@pytest.mark.parametrize("share", [0.002, 0.004, 0.05])
def test_large_matrices(shape, share):
    rng = np.random.default_rng(7)
    for cost in (rng.random(shape), rng.integers(0, 9, shape) / 8.0):
        cost[rng.random(shape) > share] = np.inf
        cost[: shape[0] // 5, 20:] = np.inf  # which compete for few columns,
        cost[20:, -(shape[1] // 3) :] = np.inf  # and columns for few rows
        entries = entries_of(cost, rng)
        for limit in (0.05, 0.5, 3.0, 100.0):
            assert_limited(entries, cost, limit)
        for sense in SENSES:
            assert assert_most(entries, cost, sense).partial


def test_chains_of_forced_pairs():
    """Alternating paths through every row."""
    n = 2000
    row = np.concatenate([np.arange(n - 1), np.arange(1, n)])
    col = np.tile(np.arange(n - 1), 2)
    data = np.repeat([1.0, 2.0], n - 1)
    chain = SimpleNamespace(row=row, col=col, data=data, shape=(n, n))
    for matrix in (chain, SimpleNamespace(row=col, col=row, data=data, shape=(n, n))):
        a = bmatch.solve(matrix, partial=True)
        assert a.objective == len(a.row_ind) == n - 1
        assert bmatch.certify(matrix, a).gap == 0
        assert bmatch.solve(matrix, cost_limit=3.0).objective == n - 1


def test_rows_that_no_entry_allows():
    for shape in ((3, 3), (0, 4), (4, 0), (2, 5), (5, 2)):
        nothing = SimpleNamespace(row=[], col=[], data=[], shape=shape)
        for options in ({"partial": True}, {"cost_limit": 1.0}):
            a = bmatch.solve(nothing, **options)
            assert len(a.row_ind) == a.objective == 0
            assert a.col_of_row.tolist() == [-1] * shape[0]
            assert bmatch.certify(nothing, a).gap == 0


def test_a_complete_matching_is_what_it_would_be_without():
    rng = np.random.default_rng(3)
    cost = rng.random((40, 60))
    entries = entries_of(cost, rng)
    a, plain = bmatch.solve(entries, partial=True), bmatch.solve(entries)
    assert np.array_equal(a.col_dual, plain.col_dual)
    assert np.array_equal(a.col_of_row, plain.col_of_row)
    assert bmatch.solve(entries, cost_limit=np.inf).cost_limit is None


def test_a_limit_alone_decides():
    cost = np.array([[1.0, np.inf], [2.0, np.inf]])
    entries = entries_of(cost, np.random.default_rng(0))
    a = bmatch.solve(entries, cost_limit=0.5, partial=True)
    assert len(a.row_ind) == 0
    assert not a.partial
    assert bmatch.solve(entries, cost_limit=1.0).objective in (0.0, 1.0)  # as good as none
    assert bmatch.solve(entries, cost_limit=1.5).col_of_row.tolist() == [0, -1]


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("options", [{"cost_limit": 3.0}, {"partial": True}])
def test_entries_that_are_not_finite(value, options):
    cost = np.array([[1.0, np.inf, np.inf], [2.0, np.inf, np.inf]])
    good = entries_of(cost, np.random.default_rng(0), "csr")
    bad = SimpleNamespace(row=[0, 1, 1], col=[0, 0, 1], data=[1.0, 2.0, value], shape=(2, 3))
    with pytest.raises(ValueError, match=r"invalid numeric entries: row 1, column 1; nonfinite"):
        bmatch.solve(bad, **options)
    a = bmatch.solve(bad, nonfinite="forbid", **options)
    assert a.col_of_row.tolist() == [0, -1]
    assert bmatch.certify(bad, a, nonfinite="forbid").gap == 0
    with pytest.raises(ValueError, match=r"invalid numeric entries: row 1, column 1; nonfinite"):
        bmatch.certify(bad, bmatch.solve(good, **options))


def test_a_certificate_for_other_solvers_pairs():
    cost = np.array([[1.0, 2.0, np.inf], [3.0, np.inf, np.inf], [4.0, np.inf, np.inf]])
    entries = entries_of(cost, np.random.default_rng(0))
    with pytest.raises(ValueError, match="has 1 pair, and there is a matching of more"):
        bmatch.certify(entries, ([0], [0]), partial=True)
    c = bmatch.certify(entries, ([0, 2], [1, 0]), partial=True)
    assert (c.objective, c.bound, c.gap) == (6.0, 5.0, 1.0)
    c = bmatch.certify(entries, ([2], [0]), cost_limit=6.0)
    assert (c.objective, c.gap) == (4.0, 5.0)  # 4 + 4 halves beside 5 + 2 halves


def test_rows_and_columns_beyond_the_index_under_a_limit():
    wide = SimpleNamespace(row=[0], col=[0], data=[1.0], shape=(2, 2**31 - 1))
    with pytest.raises(ValueError, match="up to 2\\*\\*31 - 1 rows and columns together"):
        bmatch.solve(wide, cost_limit=1.0)


@pytest.mark.parametrize("limit", [1e6, 1e12, 1e300])
def test_what_a_great_limit_rounds_away_is_in_the_gap(limit):
    """Prices as great as the limit hide what entries differ by, and the gap says how much."""
    rng = np.random.default_rng(0)
    n = 300
    row, col = np.repeat(np.arange(n), 4), rng.integers(0, n, 4 * n)
    entries = SimpleNamespace(row=row, col=col, data=rng.random(4 * n), shape=(n, n))
    limited, most = bmatch.solve(entries, cost_limit=limit), bmatch.solve(entries, partial=True)
    assert len(limited.row_ind) == len(most.row_ind) < n
    assert limited.gap >= limited.objective - most.objective - 1e-9
    assert most.gap < 1e-10
