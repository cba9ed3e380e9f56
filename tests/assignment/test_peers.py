"""What the test suites of other solvers check, asked of this one.

The properties are those that lap (dense input) and torch-linear-assignment test; matrices and
expected values are our own: from enumeration where that is possible, from SciPy elsewhere.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.optimize

import bmatch

INF = np.inf


def least(cost):
    """The optimum by enumeration, over the short side."""
    c = np.asarray(cost, dtype=np.float64)
    c = c if c.shape[0] <= c.shape[1] else c.T
    rows = np.arange(c.shape[0])
    return min(c[rows, list(p)].sum() for p in itertools.permutations(range(c.shape[1]), len(c)))


def solved(cost, **options):
    """The objective of both entry points, which must agree, with the pairs."""
    cost = np.asarray(cost)
    rows, cols = bmatch.linear_sum_assignment(cost)
    answer = bmatch.solve(cost, **options)
    assert len(set(cols)) == len(rows) == min(cost.shape)
    assert np.array_equal(answer.row_ind, rows)
    assert np.array_equal(answer.col_ind, cols)
    total = cost[rows, cols].astype(np.float64).sum()
    assert total == pytest.approx(answer.objective, rel=1e-14, abs=0)
    return total, cols


# lap: small dense matrices, each the shape of one stage of a Jonker-Volgenant solver.

LOOPS = [  # no task may go to itself: a prohibitive diagonal
    [999, 3, 14, 9, 7, 6, 5, 8],
    [4, 999, 2, 9, 7, 5, 8, 6],
    [7, 11, 999, 10, 9, 13, 4, 12],
    [12, 8, 9, 999, 2, 10, 7, 11],
    [10, 12, 8, 3, 999, 1, 11, 10],
    [13, 7, 6, 1, 12, 999, 12, 8],
    [9, 12, 11, 9, 10, 13, 999, 2],
    [11, 9, 12, 11, 5, 4, 2, 999],
]

SMALL = {
    "prohibitive diagonal": LOOPS,
    "column minima are a matching": [[90, 7, 2], [3, 90, 8], [6, 1, 90]],
    "row reduction moves one row": [[6, 90, 4], [90, 3, 3], [2, 7, 90]],
    "one row owns every column minimum": [[50, 51, 50], [50, 50, 51], [1, 2, 3]],
    "two optima": [[9, 9, 12], [3, 7, 7], [7, 4, 7]],
    "optimum off every row minimum": [[13, 12, 7], [12, 13, 13], [13, 14, 18]],
    "columns differ by little": [[14, 5, 10], [18, 16, 15], [21, 14, 18]],
    "rows that differ by a constant": [[3, 6, 8], [8, 11, 13], [2, 6, 10]],
    "one long augmenting path": [[9, 5, 13, 1], [16, 18, 16, 15], [13, 17, 14, 7], [10, 12, 10, 3]],
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64"])
def test_small_squares(name, dtype):
    cost = np.array(SMALL[name], dtype=dtype)
    assert solved(cost)[0] == solved(cost.T)[0] == least(cost)


def test_parts_of_a_matrix():
    whole = np.array(LOOPS)
    for part in (whole[:3, :3], whole[:2, :4], whole[:4, :2], whole[1::2, ::3], whole[5:2:-1, 4:7]):
        assert solved(part)[0] == least(part)


def test_squares_made_of_rectangles():
    """Dummy rows of one constant, however large, do not change the pairs of the real ones."""
    wide = np.array(LOOPS)[:2, :4]
    square = np.vstack([wide, np.full((2, 4), 5000)])
    total, cols = solved(square)
    assert total - 2 * 5000 == solved(wide)[0]
    assert np.array_equal(cols[:2], solved(wide)[1])


@pytest.mark.parametrize("limit", [1.5, 4.5, 6.5, 2000.0])
def test_pairs_above_a_limit_are_left_alone(limit):
    """A row may stay unmatched at a price: one more column a row, which holds that price."""
    cost = np.array(LOOPS, dtype=float)[:4, :4]
    _, cols = solved(np.hstack([cost, np.full((4, 4), limit)]))
    kept = cols < 4
    got = cost[np.arange(4)[kept], cols[kept]].sum() + limit * np.sum(~kept)
    assert got == least(np.hstack([cost, np.full((4, 4), limit)]))
    assert np.all(cost[np.arange(4)[kept], cols[kept]] <= limit)
    assert np.all(kept) == (limit == 2000.0)


@pytest.mark.parametrize("shape", [(), (0,), (4,), (2, 3, 3)])
def test_only_matrices_are_taken(shape):
    with pytest.raises(ValueError, match=r"expected a matrix \(2-D array\), got a "):
        bmatch.linear_sum_assignment(np.zeros(shape))


# lap: forbidden pairs.


def test_forbidden_pairs_with_one_way_out():
    cost = [
        [10, 21, INF, INF, INF],
        [13, INF, 11, INF, INF],
        [INF, 12, 9, 16, 8],
        [14, INF, INF, 23, INF],
        [12, INF, INF, INF, 14],
    ]
    assert solved(cost)[0] == least(cost) < INF


def test_a_forced_pair_beside_a_free_block():
    block = np.array(SMALL["column minima are a matching"], dtype=float)
    cost = np.full((4, 4), INF)
    cost[:3, :3] = block
    cost[3, 3] = 0
    total, cols = solved(cost)
    assert total == least(block)
    assert cols[3] == 3


UNSOLVABLE = {
    "three rows for two columns": [
        [0, 0, 0, INF, INF],
        [INF, INF, INF, 0, 0],
        [INF, INF, INF, 0, 0],
        [INF, INF, INF, 0, 0],
        [0, 0, 0, INF, INF],
    ],
    "the same with costs": [
        [18, 21, 15, INF, INF],
        [INF, INF, INF, 5, 12],
        [INF, INF, INF, 4, 13],
        [INF, INF, INF, 9, 11],
        [12, 15, 14, INF, INF],
    ],
    "a column of infinities": np.where(np.arange(5) == 2, INF, np.ones((5, 5))),
    "a row of infinities": np.where(np.arange(5)[:, None] == 2, INF, np.ones((5, 5))),
    "nothing but infinities": np.full((5, 5), INF),
}


@pytest.mark.parametrize("name", UNSOLVABLE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_unsolvable_is_said(name, dtype):
    cost = np.array(UNSOLVABLE[name], dtype=dtype)
    assert least(cost) == INF
    for ask in (bmatch.linear_sum_assignment, bmatch.solve):
        with pytest.raises(ValueError, match="cost matrix is infeasible"):
            ask(cost)


# lap: larger matrices of integers, plain, "hard" (a number added to each row and each column, so
# that minima say nothing), and sparse (all other entries the largest 32-bit integer).


def integers(n, high, *, hard, seed):
    r = np.random.default_rng(seed)
    cost = r.integers(1, high + 1, (n, n))
    if hard:
        cost += r.integers(0, high, (n, 1)) + r.integers(0, high, n)
    return cost


@pytest.mark.parametrize("n", [100, 1000])
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("dtype", ["int64", "int32", "float32", "float64"])
def test_dense_integers(n, hard, dtype):
    cost = integers(n, 100, hard=hard, seed=n + hard).astype(dtype)
    assert solved(cost)[0] == cost[scipy.optimize.linear_sum_assignment(cost)].sum()


@pytest.mark.parametrize(("n", "density"), [(100, 0.04), (1000, 0.01), (4000, 0.004)])
def test_sparse_integers(n, density):
    cost = integers(n, 100, hard=True, seed=n)
    r = np.random.default_rng(n + 1)
    there = r.random((n, n)) < density
    there[r.permutation(n), r.permutation(n)] = True  # one answer at least
    filled = np.where(there, cost, 2**31 - 1)  # int64, so that the sum of many does not wrap
    forbidden = np.where(there, cost.astype(float), INF)
    # The finite answer is the better one by far: both ways of saying "no" have the same optimum.
    total = solved(forbidden)[0]
    assert filled[bmatch.linear_sum_assignment(filled)].sum() == total
    certificate = bmatch.certify(forbidden, bmatch.solve(forbidden))
    assert certificate.gap == 0
    assert certificate.min_reduced_cost >= 0
    if n <= 1000:  # SciPy takes long for the largest
        assert total == filled[scipy.optimize.linear_sum_assignment(filled)].sum()


@pytest.mark.parametrize("step", [1e-9, 1e-13, 1e-15])
def test_costs_that_differ_by_roundings(step):
    """Ties but for the last digits: row reduction that waits for progress never ends here."""
    r = np.random.default_rng(8)
    for n in (20, 90, 300):
        cost = r.integers(1, 4, (n, n)) + step * r.integers(0, 3, (n, n)) + r.random(n)[:, None]
        expected = cost[scipy.optimize.linear_sum_assignment(cost)].sum()
        assert solved(cost)[0] == pytest.approx(expected, rel=1e-13, abs=0)


def test_more_tracks_than_detections():
    """Tall, almost every entry prohibitive, and rows left that nothing tells apart."""
    cost = np.full((7, 3), 1000.0)
    for i in (0, 1, 5, 6):
        cost[i, :2] = [0.2 + 0.013 * i, 0.25 + 0.013 * i]
    cost[2, 1:] = [0.43, 0.44]
    rows, cols = bmatch.linear_sum_assignment(cost)
    assert cost[rows, cols].sum() == pytest.approx(least(cost), rel=1e-15)
    assert cost[rows, cols].max() < 1


# torch-linear-assignment: batches of tensors, -1 for rows without a column.


def test_a_batch_of_one_with_a_row_too_many():
    torch = pytest.importorskip("torch")
    cost = torch.tensor([[[7, 3, 6], [6, 1, 2], [9, 7, 8], [8, 2, 9]]])
    out = bmatch.batch_linear_sum_assignment(cost)
    assert out.dtype == torch.int64
    assert out.shape == (1, 4)
    assert sorted(out[0].tolist()) == [-1, 0, 1, 2]
    matched = out[0] >= 0
    assert cost[0][matched].gather(1, out[0][matched][:, None]).sum() == least(cost[0].numpy())


@pytest.mark.parametrize(
    "shape", [(0, 10, 10), (1, 20, 100), (1, 100, 20), (5, 20, 100), (5, 100, 20)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batches_have_scipys_pairs(shape, dtype):
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(sum(shape))
    cost = torch.randn(shape, generator=generator, dtype=getattr(torch, dtype))
    out = bmatch.batch_linear_sum_assignment(cost)
    assert out.shape == shape[:2]
    for c, col_of_row in zip(cost.numpy(), out.numpy(), strict=True):
        row_ind, col_ind = scipy.optimize.linear_sum_assignment(c)
        assert np.array_equal(np.flatnonzero(col_of_row >= 0), row_ind)
        assert np.array_equal(col_of_row[row_ind], col_ind)


@pytest.mark.parametrize("shape", [(16, 20, 40), (1, 30, 10), (0, 5, 5)])
@pytest.mark.parametrize("threads", [1, 3])
def test_batches_of_integers_with_ties(shape, threads):
    torch = pytest.importorskip("torch")
    cost = torch.randint(-10, 10, shape, generator=torch.Generator().manual_seed(1))
    out = bmatch.batch_linear_sum_assignment(cost, num_threads=threads)
    assert out.shape == shape[:2]
    assert out.dtype == torch.int64
    for c, col_of_row in zip(cost.numpy(), out.numpy(), strict=True):
        rows = np.flatnonzero(col_of_row >= 0)
        assert len(set(col_of_row[rows])) == len(rows) == min(shape[1:])
        expected = c[scipy.optimize.linear_sum_assignment(c)].sum()
        assert c[rows, col_of_row[rows]].sum() == expected
