"""Rows that several ranks make: the answer and the bits of one process."""

from __future__ import annotations

import numpy as np
import pytest
from rank_threads import ranks_of_threads

import bmatch
from bmatch import Factors
from bmatch.assignment.shared_rows import shared_rows
from bmatch.jobs.ranks import ALONE


def sides(n, m, terms=7):
    r = np.random.default_rng(n)
    return r.normal(size=(n, terms)).astype(np.float32), r.normal(size=(m, terms))


@pytest.mark.parametrize("world", [2, 3, 70])
@pytest.mark.parametrize("cost", ["dot", "abs_cosine", "euclidean"])
@pytest.mark.parametrize(("n", "m", "limit"), [(150, 150, None), (90, 200, None), (90, 130, 0.1)])
def test_ranks_make_the_rows_of_one(world, cost, n, m, limit):
    factors = Factors(*sides(n, m), cost)
    matrix = factors.dense()
    asked = [[] for _ in range(world)]

    def serve(ranks):
        given = Factors(*sides(n, m), cost)  # in a process of its own
        rows = given._source.rows
        given._source.rows = lambda *where: asked[ranks.rank].append(where) or rows(*where)
        with shared_rows(given, ranks) as shared:
            assert shared is None

    with ranks_of_threads(world, serve) as first, shared_rows(factors, first) as shared:
        assert np.array_equal(shared.dense(), matrix)
        found = bmatch.solve(shared, cost_limit=limit, num_threads=1)
        proof = bmatch.certify(shared, found)
    wanted = bmatch.solve(matrix, cost_limit=limit)
    assert np.array_equal(found.row_ind, wanted.row_ind)
    assert np.array_equal(found.col_ind, wanted.col_ind)
    assert found.objective == wanted.objective
    assert proof.gap <= 1e-9
    made = [sum(count for _, count in parts) for parts in asked[1:]]
    assert sum(made) > 0
    if world < 64:  # rows of a block
        assert max(made) <= 1.1 * min(made)


def test_one_process_is_enough():
    factors = Factors(*sides(40, 60), "sqeuclidean")
    with shared_rows(factors, ALONE) as shared:
        assert bmatch.solve(shared).objective == bmatch.solve(factors).objective


def test_more_rows_than_columns_and_what_fails_ends_all():
    factors = Factors(*sides(60, 40))
    with (
        pytest.raises(ValueError, match="so make the columns of a tall matrix its rows"),
        shared_rows(factors, ALONE),
    ):
        pass

    def serve(ranks):
        with shared_rows(factors.T, ranks) as shared:
            assert shared is None

    def fail(shared):
        shared.dense()
        raise LookupError

    with (
        ranks_of_threads(2, serve) as first,
        pytest.raises(LookupError),
        shared_rows(factors.T, first) as shared,
    ):
        fail(shared)
