"""Partial assignments against the extended matrix, big-M in exact integers, and all matchings."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optimality import SENSES, minimised, scipy_objective

import bmatch
from bmatch import _core
from bmatch.assignment.costs import Costs
from bmatch.assignment.margins import margins
from bmatch.assignment.partial import blocks, neighbours
from bmatch.assignment.solver import limited_pairs

EXAMPLES = int(os.environ.get("BMATCH_FUZZ_EXAMPLES", "400")) // 2
FORBIDDEN = 1e7  # in place of infinity, which SciPy's answer for the extension must not have


def extended(cost, limit):
    """What lap solves: rows and columns may be matched to nothing at half of the limit each."""
    n, m = cost.shape
    extension = np.full((n + m, n + m), limit / 2)
    extension[:n, :m] = np.where(np.isinf(cost), FORBIDDEN, cost)
    extension[n:, m:] = 0
    return scipy_objective(extension)


def assert_limited(cost, limit, sense="minimize", **options):
    """The answer for `cost` is the extension's, and proved to be."""
    a = bmatch.solve(cost, cost_limit=limit, **SENSES[sense], **options)
    flip = 1 if sense == "minimize" else -1
    c, low = minimised(cost, sense), flip * limit
    n, m = c.shape
    matched = c[a.row_ind, a.col_ind]
    assert np.all(matched <= low)
    assert np.all(np.diff(a.row_ind) > 0)
    assert len(np.unique(a.col_ind)) == len(a.col_ind)
    of_row = np.full(n, -1)
    of_row[a.row_ind] = a.col_ind
    assert np.array_equal(a.col_of_row, of_row)
    assert a.objective == pytest.approx(flip * matched.sum(), rel=1e-12, abs=1e-300)
    total = matched.sum() + low / 2 * (n + m - 2 * len(matched))
    scale = max(np.abs(c[np.isfinite(c)]).max(initial=abs(low)), 1e-300)
    assert total == pytest.approx(extended(c, low), rel=1e-12, abs=1e-12 * scale)
    u, v = flip * np.asarray(a.row_dual), flip * np.asarray(a.col_dual)
    assert max(u.max(initial=-np.inf), v.max(initial=-np.inf)) <= low / 2 + 1e-12 * scale
    assert np.all(u[of_row < 0] == low / 2)
    proof = bmatch.certify(cost, a, **SENSES[sense])
    assert proof.objective == a.objective
    assert 0 <= a.gap <= 1e-12 * scale * max(n, m)
    assert abs(proof.gap) <= 1e-12 * scale * max(n, m)
    assert proof.min_reduced_cost >= -1e-12 * scale
    if sense == "minimize":
        rows, cols = limited_pairs(cost, float(limit))
        assert np.array_equal(rows, a.row_ind)
        assert np.array_equal(cols, a.col_ind)
    return a


@st.composite
def matrices(draw):
    n, m = draw(st.tuples(st.integers(0, 9), st.integers(0, 9)))
    most = draw(st.sampled_from([1, 5, 40]))
    entries = st.integers(-most, most)
    cost = np.array(draw(st.lists(entries, min_size=n * m, max_size=n * m))).reshape(n, m)
    return cost.astype(draw(st.sampled_from([np.float32, np.float64, np.int16])))


@settings(max_examples=EXAMPLES, deadline=None)
@given(matrices(), st.integers(-45, 45), st.sampled_from([0.0, 0.1]), st.sampled_from([*SENSES]))
def test_limits_from_below_all_entries_to_above_all(cost, limit, more, sense):
    assert_limited(cost, limit + more, sense)


@pytest.mark.parametrize("small", [0, 2**20])
@pytest.mark.parametrize("shape", [(40, 40), (30, 70), (1, 50)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("below", [0.0, 0.02, 0.4, 0.95, 1.0])
def test_whole_rows_lists_and_both_ways_of_staying_out(small, shape, dtype, below):
    rng = np.random.default_rng(sum(shape))
    for cost in (rng.random(shape), rng.integers(0, 40, shape), rng.random(shape).round(1)):
        stored = cost.astype(dtype)
        if below == 0.4:
            stored[rng.random(shape) < 0.3] = np.inf
        limit = float(np.quantile(cost, below)) - (0.5 if below == 0.0 else 0.0)
        solved = _core.solve(stored, _core.Sense.minimize, 1, True, None, limit=limit, small=small)
        assert solved.outcome == _core.Outcome.optimal
        rows = np.flatnonzero(solved.col_of_row >= 0)
        matched = stored[rows, solved.col_of_row[rows]].astype(np.float64)
        assert np.all(matched <= limit)
        out = limit * (shape[0] - len(rows))
        expected = extended(stored.astype(np.float64), limit) - limit / 2 * (shape[1] - shape[0])
        assert matched.sum() + out == pytest.approx(expected, rel=1e-12, abs=1e-12)
        u, v = solved.row_dual, solved.col_dual
        assert u.sum() + v.sum() == pytest.approx(expected, rel=1e-12, abs=1e-11)
        assert (stored - u[:, None] - v).min() >= -1e-12 * 40
        assert u.max() <= limit
        assert v.max() <= 0


@pytest.mark.parametrize("shape", [(500, 500), (420, 600), (600, 420)])
@pytest.mark.parametrize("sense", SENSES)
@pytest.mark.parametrize("near", [0.002, 0.05, 0.9])
def test_large_matrices(shape, sense, near):
    rng = np.random.default_rng(7)
    cost = rng.integers(0, 1000, shape) / 8.0
    limit = np.quantile(cost, near if sense == "minimize" else 1 - near)
    if sense == "minimize":
        cost[rng.random(shape) < 0.1] = np.inf
    a = assert_limited(cost, limit, sense)
    assert a.cost_limit == limit
    assert not a.partial
    assert np.array_equal(assert_limited(cost, limit, sense, num_threads=3).col_ind, a.col_ind)


def test_trackers_boxes():
    """Few pairs of detections are near: intersection over union, and distances that are gated."""
    rng = np.random.default_rng(3)
    place = rng.uniform(0, 900, (420, 2))
    moved = np.concatenate([place[:380] + rng.normal(0, 4, (380, 2)), rng.uniform(0, 900, (60, 2))])
    over = np.clip(30 - np.abs(place[:, None] - moved), 0, None).prod(-1)
    iou = over / (1800 - over)
    for dtype in (np.float32, np.float64):
        assert_limited((1 - iou).astype(dtype), 0.7)
        assert_limited(iou.astype(dtype), 0.3, "maximize")
    assert_limited(np.hypot(*(place[:, None] - moved).transpose(2, 0, 1)), 10.0)


def test_a_pair_at_the_limit_is_as_good_as_none():
    for n in (1, 3, 400):
        a = assert_limited(np.full((n, n), 5.0), 5.0)
        assert a.objective == 5.0 * len(a.row_ind)
        assert len(assert_limited(np.full((n, n), 5.0), np.nextafter(5.0, 0)).row_ind) == 0
        assert len(assert_limited(np.full((n, n), 5.0), np.nextafter(5.0, 9)).row_ind) == n


def test_limits_that_float32_does_not_hold():
    """Neither is rounded into or out of the way of entries beside it."""
    near = np.float32(0.1)
    for n in (4, 400):
        cost = np.full((n, n), near)
        assert len(assert_limited(cost, np.nextafter(float(near), 0)).row_ind) == 0
        assert len(assert_limited(cost, np.nextafter(float(near), 1)).row_ind) == n
        assert bmatch.solve(cost, cost_limit=1e-320).row_ind.shape == (0,)


def test_forbidden_pairs_and_entries_that_are_none():
    cost = np.full((3, 4), np.inf)
    assert len(assert_limited(cost, 2.0).row_ind) == 0
    cost[1, 2] = 1.0
    assert assert_limited(cost, 2.0).col_of_row.tolist() == [-1, 2, -1]
    assert bmatch.solve(-cost, True, cost_limit=-2).col_of_row.tolist() == [-1, 2, -1]
    for bad in (np.nan, -np.inf):
        cost[0, 1] = bad
        with pytest.raises(ValueError, match="matrix contains invalid numeric entries"):
            bmatch.solve(cost, cost_limit=2.0)
        a = bmatch.solve(cost, cost_limit=2.0, nonfinite="forbid")
        assert a.col_of_row.tolist() == [-1, 2, -1]
        assert bmatch.certify(cost, a, nonfinite="forbid").gap == 0


def test_no_limit():
    cost = np.random.default_rng(0).random((5, 7))
    plain = bmatch.solve(cost)
    for limit in (np.inf, None):
        a = bmatch.solve(cost, cost_limit=limit)
        assert a.cost_limit is None
        assert np.array_equal(a.col_dual, plain.col_dual)
    with pytest.raises(ValueError, match="has no finite entry"):
        bmatch.solve([[np.inf]], cost_limit=np.inf)
    assert bmatch.solve(cost, True, cost_limit=-np.inf).cost_limit is None


@pytest.mark.parametrize(
    ("limit", "maximize", "error", "message"),
    [
        (np.nan, False, ValueError, "a finite number, or inf for no limit, got nan"),
        (-np.inf, False, ValueError, "a finite number, or inf for no limit, got -inf"),
        (np.inf, True, ValueError, "a finite number, or -inf for no limit, got inf"),
        ([1.0, 2.0], False, TypeError, r"must be a number, got \[1.0, 2.0\]"),
        (10**400, False, TypeError, "cost_limit must be a number, got 1000"),
        ("far", False, TypeError, "cost_limit must be a number, got 'far'"),
    ],
)
def test_limits_that_are_none(limit, maximize, error, message):
    with pytest.raises(error, match=message):
        bmatch.solve(np.eye(2), maximize, cost_limit=limit)


def test_partial_is_true_or_false():
    with pytest.raises(TypeError, match="partial must be True or False, got 'yes'"):
        bmatch.solve(np.eye(2), partial="yes")


def test_integers_that_float64_does_not_hold():
    far = np.array([[2**60, 2**60 + 1], [2**60 + 3, 2**60]])
    with pytest.raises(ValueError, match="integers that float64 holds one by one"):
        bmatch.solve(far, cost_limit=2.0**60)
    with pytest.raises(ValueError, match="integers that float64 holds one by one"):
        bmatch.batch_linear_sum_assignment(far[None], cost_limit=2.0**60)
    assert bmatch.solve(far, partial=True).objective == 2.0**61


def test_a_certificate_for_other_solvers_pairs():
    cost = np.array([[1.0, 5.0], [4.0, 9.0]])
    assert bmatch.certify(cost, ([0], [0]), cost_limit=6.0).gap == 0.0
    worse = bmatch.certify(cost, ([1], [0]), cost_limit=6.0)
    assert (worse.objective, worse.gap, worse.bound) == (4.0, 3.0, 1.0)
    above = bmatch.certify(cost, ([0, 1], [0, 1]), cost_limit=6.0)  # 9 where 6 would do
    assert above.gap == 3.0
    with pytest.raises(ValueError, match="expected 2 distinct rows"):
        bmatch.certify(cost, ([0], [0]))
    with pytest.raises(ValueError, match="expected at most 2 distinct rows"):
        bmatch.certify(cost, ([0, 0], [0, 1]), cost_limit=6.0)


def test_no_margins():
    cost = np.eye(3)
    for a in (bmatch.solve(cost, cost_limit=2.0), bmatch.solve([[1, np.inf]] * 2, partial=True)):
        with pytest.raises(ValueError, match="margins compare complete assignments"):
            margins(Costs.of(cost[: len(a.row_dual), : len(a.col_dual)], _core.Sense.minimize), a)


def test_starts_from_other_answers():
    """An answer that left rows out is a start like any other, and the other way round."""
    rng = np.random.default_rng(5)
    cost = rng.random((450, 450))
    plain, limited = bmatch.solve(cost), bmatch.solve(cost, cost_limit=0.9)
    other = cost + 0.01 * rng.random(cost.shape)
    assert bmatch.solve(other, warm_start=limited).objective == pytest.approx(
        scipy_objective(other), rel=1e-12
    )
    assert_limited(other, 0.9, warm_start=plain)
    assert_limited(other, 0.004, warm_start=limited)


# ---- As many pairs as possible -------------------------------------------------------------


def all_matchings(cost):
    """(pairs, sum) of every matching of the finite entries."""
    n, m = cost.shape
    yield 0, 0.0
    for k in range(1, min(n, m) + 1):
        for rows in itertools.combinations(range(n), k):
            for cols in itertools.permutations(range(m), k):
                total = sum(cost[i, j] for i, j in zip(rows, cols, strict=True))
                if total < np.inf:
                    yield k, total


def assert_most(cost, sense="minimize", **options):
    """As many pairs as can be, and of those the least sum, by one number for forbidden pairs."""
    a = bmatch.solve(cost, partial=True, **SENSES[sense], **options)
    flip = 1 if sense == "minimize" else -1
    c = minimised(cost, sense)
    n, m = c.shape
    big = 1 + 2 * min(n, m) * np.abs(c[np.isfinite(c)]).max(initial=0)
    expected = scipy_objective(np.where(np.isinf(c), big, c))
    matched = c[a.row_ind, a.col_ind]
    assert matched.sum() + big * (min(n, m) - len(matched)) == expected
    assert a.objective == flip * matched.sum()
    assert a.partial == (len(matched) < min(n, m))
    proof = bmatch.certify(cost, a, **SENSES[sense])
    assert proof.objective == proof.bound == a.objective
    assert proof.gap == a.gap == 0
    assert proof.min_reduced_cost >= 0
    return a


@st.composite
def forbidding(draw):
    cost = draw(matrices()).astype(np.float64)
    allowed = draw(st.lists(st.booleans(), min_size=cost.size, max_size=cost.size))
    cost[~np.array(allowed, bool).reshape(cost.shape)] = np.inf
    return cost


@settings(max_examples=EXAMPLES, deadline=None)
@given(forbidding(), st.booleans())
def test_most_pairs_and_the_cheapest_of_those(cost, single):
    cost = cost.astype(np.float32 if single else np.float64)
    assert_most(cost)
    assert_most(-cost, "maximize")


@settings(max_examples=EXAMPLES // 8, deadline=None)
@given(forbidding())
def test_against_all_matchings(cost):
    cost = cost[:4, :4]
    a = bmatch.solve(cost, partial=True)
    assert (-len(a.row_ind), a.objective) == min((-k, total) for k, total in all_matchings(cost))


@pytest.mark.parametrize("shape", [(500, 500), (420, 600), (600, 420)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("share", [0.001, 0.004, 0.3])
def test_large_matrices_with_few_finite_entries(shape, dtype, share):
    rng = np.random.default_rng(11)
    cost = rng.integers(0, 1000, shape).astype(dtype)
    cost[rng.random(shape) > share] = np.inf
    half = shape[0] // 2
    cost[:half] = np.inf
    cost[:half, :20] = rng.integers(0, 1000, (half, 20))
    assert assert_most(cost).partial
    assert_most(-cost[:, ::-1], "maximize", num_threads=2)


def test_chains_of_forced_pairs():
    """Alternating paths through every row."""
    n = 300
    cost = np.full((n, n), np.inf)
    cost[np.arange(n - 1), np.arange(n - 1)] = 1
    cost[np.arange(1, n), np.arange(n - 1)] = 2
    a = assert_most(cost)
    assert len(a.row_ind) == n - 1
    assert_most(cost.T)


def test_a_complete_matching_is_what_it_would_be_without():
    cost = np.random.default_rng(0).random((6, 9))
    a, plain = bmatch.solve(cost, partial=True), bmatch.solve(cost)
    assert np.array_equal(a.col_of_row, plain.col_of_row)
    assert not a.partial


def test_nothing_can_be_matched():
    for shape in ((3, 3), (0, 4), (4, 0), (2, 5), (5, 2)):
        a = bmatch.solve(np.full(shape, np.inf), partial=True)
        assert len(a.row_ind) == a.objective == 0
        assert a.col_of_row.tolist() == [-1] * shape[0]
        assert bmatch.certify(np.full(shape, np.inf), a).gap == 0


def test_entries_that_are_none_are_none_where_pairs_may_be_few():
    cost = np.array([[1.0, np.inf], [2.0, np.inf]])
    with pytest.raises(ValueError, match=r"invalid numeric entries: nan in row 1, column 1"):
        bmatch.solve([[1.0, np.inf], [2.0, np.nan]], partial=True)
    cost[1, 1] = np.nan
    assert bmatch.solve(cost, partial=True, nonfinite="forbid").col_of_row.tolist() == [0, -1]


def test_a_limit_alone_decides():
    cost = np.array([[1.0, np.inf], [2.0, np.inf]])
    a = bmatch.solve(cost, cost_limit=0.5, partial=True)
    assert len(a.row_ind) == 0
    assert not a.partial


def test_more_pairs_are_possible():
    cost = np.array([[1.0, 2.0, np.inf], [3.0, np.inf, np.inf], [4.0, np.inf, np.inf]])
    with pytest.raises(ValueError, match="has 1 pair, and there is a matching of more"):
        bmatch.certify(cost, ([0], [0]), partial=True)
    c = bmatch.certify(cost, ([0, 2], [1, 0]), partial=True)
    assert (c.objective, c.bound, c.gap) == (6.0, 5.0, 1.0)


def test_blocks():
    finite = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]], bool)
    at_row, at_col = np.nonzero(finite)
    of = neighbours(at_row, at_col, 4), neighbours(at_col, at_row, 4)
    found = blocks((4, 4), *of, np.array([0, 2, 3]), np.array([0, 1, 2]))
    assert [(i.tolist(), j.tolist()) for i, j in found] == [
        ([0, 1], [0]),
        ([2], [1]),
        ([3], [2, 3]),
    ]


# ---- Batches, tensors ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 7), (5, 9), (9, 5)])
@pytest.mark.parametrize("maximize", [False, True])
def test_batches(shape, maximize):
    rng = np.random.default_rng(2)
    cost = rng.integers(0, 30, (12, *shape)).astype(np.float32)
    cost[rng.random(cost.shape) < 0.5] = -np.inf if maximize else np.inf
    limits = rng.integers(0, 30, 12)
    limits[3] = 40 if not maximize else -1
    for limit in (limits, 11):
        found = bmatch.batch_linear_sum_assignment(cost, maximize, cost_limit=limit)
        each = np.broadcast_to(limit, 12)
        for k in range(12):
            a = bmatch.solve(cost[k], maximize, cost_limit=float(each[k]))
            assert np.array_equal(found[k], a.col_of_row)
    found = bmatch.batch_linear_sum_assignment(cost, maximize, partial=True)
    for k in range(12):
        assert np.array_equal(found[k], bmatch.solve(cost[k], maximize, partial=True).col_of_row)


def test_limits_of_a_batch():
    cost = np.zeros((3, 2, 2))
    message = r"one number, or one for each of the 3 problems, got an array of shape \(2,\)"
    with pytest.raises(ValueError, match=message):
        bmatch.batch_linear_sum_assignment(cost, cost_limit=[1, 2])
    with pytest.raises(ValueError, match="a finite number, or inf for no limit"):
        bmatch.batch_linear_sum_assignment(cost, cost_limit=[1, np.nan, 2])
    cost[1, 0] = np.inf
    with pytest.raises(ValueError, match=r"no finite entry \(problem 1 of the batch\)"):
        bmatch.batch_linear_sum_assignment(cost, cost_limit=[1, np.inf, 2])


def test_tensors():
    torch = pytest.importorskip("torch")
    cost = torch.tensor([[1.0, 5.0], [4.0, torch.inf]])
    for a in (bmatch.solve(cost, cost_limit=3.0), bmatch.solve(cost[:, :1], partial=True)):
        assert a.row_ind.tolist() == a.col_ind.tolist() == [0]
        assert isinstance(a.row_dual, torch.Tensor)
        assert a.col_of_row.tolist() == [0, -1]


@pytest.mark.parametrize("maximize", [False, True])
def test_batches_of_tensors(maximize):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    cost, limits = rng.random((12, 5, 9), dtype=np.float32), rng.random(12)
    expected = bmatch.batch_linear_sum_assignment(cost, maximize, cost_limit=limits)
    tensors = (torch.from_numpy(cost), maximize)
    found = bmatch.batch_linear_sum_assignment(*tensors, cost_limit=torch.from_numpy(limits))
    assert torch.equal(found, torch.from_numpy(expected))
    far = torch.tensor([[[2**60, 2**60 + 1], [2**60 + 3, 2**60]]])
    with pytest.raises(ValueError, match="integers that float64 holds one by one"):
        bmatch.batch_linear_sum_assignment(far, maximize, cost_limit=2.0**60)
