"""Sparse cost matrices: SciPy's dense solver with infinity for absent entries is the oracle."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import heed_ctrl_c

import bmatch
from bmatch.assignment.costs import sense_of
from bmatch.assignment.sparse import SparseCosts, solve_sparse


def problem(rng, n, m, density, values):
    """A dense matrix with +inf for absent entries, and its entries in random order."""
    cost = values(rng, (n, m))
    allowed = rng.random((n, m)) < density
    short = min(n, m)
    allowed[rng.permutation(n)[:short], rng.permutation(m)[:short]] = True
    row, col = np.nonzero(allowed)
    order = rng.permutation(len(row))
    row, col = row[order], col[order]
    return np.where(allowed, cost, np.inf), scipy.sparse.coo_matrix(
        (cost[row, col], (row, col)), (n, m)
    )


def uniform(rng, shape):
    return rng.random(shape)


def ties(rng, shape):
    return rng.integers(-2, 3, shape).astype(float)


def decades(rng, shape):
    return np.exp(8 * rng.standard_normal(shape))


def check(cost, entries, **options):
    """The objective of SciPy, pairs that have it, and a certificate."""
    sign = -1 if options.get("maximize") else 1
    dense = np.where(np.isinf(cost), sign * np.inf, cost)
    best = dense[scipy.optimize.linear_sum_assignment(dense, **options)].sum()
    answer = bmatch.solve(entries, **options)
    assert len(answer.row_ind) == min(cost.shape)
    assert len(set(answer.col_ind.tolist())) == len(answer.col_ind)
    assert (np.diff(answer.row_ind) > 0).all()
    matched = cost[answer.row_ind, answer.col_ind]
    assert answer.objective == pytest.approx(best, rel=1e-11, abs=1e-11)
    assert matched.sum() == pytest.approx(best, rel=1e-11, abs=1e-11)
    scale = max(abs(answer.row_dual).max(), abs(answer.col_dual).max(), 1)
    proof = bmatch.certify(entries, answer, **options)
    assert proof.min_reduced_cost >= -1e-13 * scale
    assert abs(proof.gap) <= 1e-12 * scale * len(matched)
    return answer


@given(
    st.integers(0, 2**32),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([0.1, 0.4, 1.0]),
    st.sampled_from([uniform, ties, decades]),
    st.sampled_from(["coo", "csr", "csc", "lil"]),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_the_optimum_is_scipys(seed, n, m, density, values, kind, maximize):
    cost, entries = problem(np.random.default_rng(seed), n, m, density, values)
    check(cost, entries.asformat(kind), maximize=maximize)


@pytest.mark.parametrize("values", [uniform, ties, decades])
@pytest.mark.parametrize("shape", [(400, 400), (300, 700), (700, 300)])
def test_auctions_and_forests_end_at_the_optimum(values, shape):
    cost, entries = problem(np.random.default_rng(5), *shape, 0.02, values)
    check(cost, entries.tocsr())


def test_a_large_matrix_as_full_bipartite_matching_has_it():
    rng = np.random.default_rng(0)
    n = 5000
    row = np.tile(np.arange(n), 8)
    col = np.concatenate([rng.permutation(n) for _ in range(8)])
    entries = scipy.sparse.coo_matrix((rng.random(8 * n), (row, col)), (n, n)).tocsr()
    pairs = scipy.sparse.csgraph.min_weight_full_bipartite_matching(entries)
    answer = bmatch.solve(entries)
    assert answer.objective == pytest.approx(entries[pairs].sum(), rel=1e-12)
    proof = bmatch.certify(entries, pairs)
    assert proof.gap == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("cols", [2000, 2200])
def test_few_huge_costs_and_rows_with_one_pair(cols):
    """They had bid the spread of all costs, and then every row was matched by a path of its own."""
    rng = np.random.default_rng(0)
    allowed = rng.random((2000, cols)) < 0.004
    allowed[:20] = False
    allowed[np.arange(2000), rng.permutation(cols)[:2000]] = True
    cost = np.where(allowed, rng.random((2000, cols)), np.inf)
    cost[allowed & (rng.random((2000, cols)) < 1e-3)] = 1e9
    entries = scipy.sparse.coo_matrix((cost[allowed], np.nonzero(allowed)), cost.shape)
    answer = check(cost, entries)
    assert answer.stats["augmentations"] < 200


@pytest.mark.parametrize("seed", [2, 4, 6, 7])
def test_prices_that_dwarf_the_answer_are_not_the_least_that_prove_it(seed):
    """Rows crowd into few columns: every row was matched once more by a path of its own."""
    rng = np.random.default_rng(seed)
    allowed = np.zeros((1000, 1000), bool)
    allowed[np.arange(1000)[:, None], (1000 * rng.random((1000, 12)) ** 4).astype(int)] = True
    allowed[np.arange(1000), rng.permutation(1000)] = True
    cost = np.where(allowed, np.exp(10 * rng.standard_normal((1000, 1000))), np.inf)
    entries = scipy.sparse.coo_matrix((cost[allowed], np.nonzero(allowed)), cost.shape)
    answer = check(cost, entries)
    assert answer.stats["augmentations"] < 200


@pytest.mark.parametrize("unit", [2.0**-40, 1.0, 2.0**40])
def test_one_pair_is_proved_in_whatever_unit(unit):
    entries = scipy.sparse.coo_matrix(([0.7 * unit], ([0], [2])), (1, 4))
    answer = bmatch.solve(entries)
    assert answer.row_dual.tolist() == [0.7 * unit]
    assert bmatch.certify(entries, answer).gap == 0


@pytest.mark.parametrize("index", [np.int32, np.int64, np.uint16])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int8, np.uint32, bool])
def test_types_of_entries_and_indices(dtype, index):
    cost = np.random.default_rng(1).integers(0, 100, (6, 6)).astype(dtype)
    row, col = (side.ravel().astype(index) for side in np.indices((6, 6)))
    entries = SimpleNamespace(row=row, col=col, data=cost.ravel(), shape=(6, 6))
    check(cost.astype(float), entries)
    rows = SimpleNamespace(
        indptr=np.arange(0, 37, 6).astype(index), indices=col, data=cost.ravel(), shape=(6, 6)
    )
    check(cost.astype(float), rows)
    columns = SimpleNamespace(**{**vars(rows), "data": cost.T.ravel()}, format="csc")
    check(cost.astype(float), columns)


@pytest.mark.parametrize("to", ["to_sparse_coo", "to_sparse_csr", "to_sparse_csc"])
@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
def test_sparse_tensors_give_tensors(to):
    torch = pytest.importorskip("torch")
    cost = torch.tensor([[4.0, 1.0, 0.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]])
    row_ind, col_ind = bmatch.linear_sum_assignment(getattr(cost, to)())
    assert isinstance(col_ind, torch.Tensor)
    assert row_ind.tolist() == [0, 1, 2]
    assert col_ind.tolist() == [1, 0, 2]


def test_explicit_zeros_are_pairs_and_absent_entries_are_not():
    entries = scipy.sparse.csr_matrix(([0.0, 5.0, 3.0], [0, 1, 0], [0, 2, 3]), (2, 2))
    assert bmatch.solve(entries).col_of_row.tolist() == [1, 0]
    assert bmatch.linear_sum_assignment(entries)[1].tolist() == [1, 0]


def test_entries_of_one_place_are_added_up():
    entries = scipy.sparse.coo_matrix(
        ([1.0, 1.0, 5.0, 3.0, 3.0], ([0, 0, 0, 1, 1], [0, 0, 1, 0, 1])), (2, 2)
    )
    answer = bmatch.solve(entries)
    assert answer.col_of_row.tolist() == [0, 1]
    assert answer.objective == 5.0


def test_infinity_forbids_and_magnitudes_have_signs():
    entries = scipy.sparse.csr_matrix(([-9.0, 1.0, 2.0, np.inf], [0, 1, 0, 1], [0, 2, 4]), (2, 2))
    assert bmatch.solve(entries).col_of_row.tolist() == [1, 0]
    entries.data[3] = 0.5
    for matrix in (entries, entries.tocsc(), entries.tocoo()):
        answer = bmatch.solve(matrix, sign_marginalized=True)
        assert answer.sign.tolist() == [-1, 1]
        assert answer.objective == 9.5
        assert bmatch.certify(matrix, answer, sign_marginalized=True).gap == 0


@pytest.mark.parametrize("kind", ["csr", "csc", "coo"])
def test_invalid_entries_are_named(kind):
    cost = np.arange(12.0).reshape(4, 3) + 1
    cost[2, 1] = cost[3, 0] = np.nan
    with pytest.raises(ValueError, match=r"row 2, column 1, the first of 2; nonfinite"):
        bmatch.solve(scipy.sparse.coo_matrix(cost).asformat(kind))
    cost[3, 0], cost[2, 1] = 1, -np.inf
    with pytest.raises(ValueError, match=r"invalid numeric entries: row 2, column 1; nonfinite"):
        bmatch.solve(scipy.sparse.coo_matrix(cost).asformat(kind))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_entries_that_are_not_finite_can_be_forbidden(value):
    entries = parts(indptr=[0, 2, 4], indices=[0, 1, 0, 1], data=[value, 1.0, 2.0, value])
    costs = SparseCosts.of(entries, sense_of(False, False))
    assert solve_sparse(costs._replace(forbids=True))[1].col_of_row.tolist() == [1, 0]


@pytest.mark.parametrize("n", [3, 300])
def test_rows_that_compete_are_named(n):
    """Rows 0, 1 and 2 share two columns; others have all."""
    row, col = np.nonzero(np.ones((n, n)))
    kept = (row > 2) | (col < 2)
    row, col = row[kept], col[kept]
    cost = np.random.default_rng(0).random(len(row))
    entries = scipy.sparse.coo_matrix((cost, (row, col)), (n, n))
    message = "the 3 rows 0, 1, 2 have finite entries in only 2 columns"
    with pytest.raises(ValueError, match=message):
        bmatch.solve(entries.tocsr())
    with pytest.raises(
        ValueError,
        match=message.replace("rows", "c").replace("columns", "rows").replace("c 0", "columns 0"),
    ):
        bmatch.solve(entries.T.tocsc())


def test_a_row_without_entries_is_named():
    entries = scipy.sparse.csr_matrix(([1.0, 2.0], [0, 1], [0, 1, 1, 2]), (3, 3))
    with pytest.raises(ValueError, match="row 1 has no finite entry"):
        bmatch.solve(entries)


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (3, 0)])
def test_nothing_to_match(shape):
    row_ind, col_ind = bmatch.linear_sum_assignment(scipy.sparse.csr_matrix(shape))
    assert len(row_ind) == len(col_ind) == 0


def parts(**changed):
    rows = {"indptr": [0, 1, 2], "indices": [0, 1], "data": [1.0, 2.0], "shape": (2, 2)}
    return SimpleNamespace(**{**rows, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"indices": [0, 2]},
            "indices of the sparse cost matrix runs from 0 to 2, expected 0 to 1",
        ),
        ({"indices": [-1, 1]}, "indices of the sparse cost matrix runs from -1 to 1"),
        ({"indices": [0]}, r"has shape \(1,\), expected \(2,\), one for each entry of data"),
        ({"indptr": [0, 2]}, r"indptr of the sparse cost matrix has dtype int64 and shape \(2,\)"),
        ({"indptr": [0, 2, 1]}, "must ascend from 0"),
        ({"indptr": [1, 1, 2]}, "must ascend from 0"),
        ({"indptr": [0, 1, 3]}, "must ascend from 0 to at most the 2 entries"),
        ({"data": [2**60, 1]}, "float64 does not hold them one by one"),
        ({"data": [[1.0], [2.0]]}, "data of the sparse cost matrix has 2 dimensions"),
        ({"shape": (2,)}, "expected a matrix"),
        ({"shape": (2, 2**31)}, "up to 2\\*\\*31 - 1 rows and columns"),
    ],
)
def test_parts_that_make_no_matrix_are_said(changed, message):
    with pytest.raises(ValueError, match=message):
        bmatch.solve(parts(**changed))


def test_types_that_make_no_matrix_are_said():
    with pytest.raises(TypeError, match="indices of the sparse cost matrix has dtype float64"):
        bmatch.solve(parts(indices=[0.0, 1.0]))
    with pytest.raises(TypeError, match="according to the rule 'safe'"):
        bmatch.solve(parts(data=[1j, 2.0]))
    with pytest.raises(ValueError, match="sparse matrices are solved on the host"):
        bmatch.solve(parts(), backend="cuda")


def test_a_pair_that_is_no_entry_has_infinite_cost():
    assert bmatch.certify(parts(), ([0, 1], [0, 1])).objective == 3.0
    assert bmatch.certify(parts(), ([0, 1], [1, 0])).objective == np.inf


def test_what_is_given_is_not_written_to():
    given = parts(indices=np.array([1, 0]), data=np.array([3.0, 4.0]))
    bmatch.solve(given, maximize=True)
    assert given.indices.tolist() == [1, 0]
    assert given.data.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("kind", ["coo", "csr", "csc"])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("shape", [(30, 30), (20, 30), (30, 20)])
def test_what_is_half_there_is_solved_as_a_dense_matrix(kind, maximize, shape):
    """Entries of one place are added up, absent ones are forbidden, ties are the dense solver's."""
    rng = np.random.default_rng(4)
    cost = rng.integers(0, 5, shape).astype(float)
    row, col = np.nonzero(rng.random(shape) < 0.7)
    part = rng.integers(-3, 4, len(row))
    twice = np.concatenate([cost[row, col] - part, part])
    entries = scipy.sparse.coo_matrix((twice, (np.tile(row, 2), np.tile(col, 2))), shape)
    entries = entries if kind == "coo" else entries.asformat(kind)
    dense = np.full(shape, -np.inf if maximize else np.inf)
    dense[row, col] = cost[row, col]
    dense = np.asfortranarray(dense) if kind == "csc" else dense
    a, expected = bmatch.solve(entries, maximize), bmatch.solve(dense, maximize)
    assert np.array_equal(a.col_of_row, expected.col_of_row)
    assert np.array_equal(a.col_dual, expected.col_dual)
    assert bmatch.linear_sum_assignment(entries, maximize)[1].tolist() == a.col_ind.tolist()
    assert bmatch.certify(entries, a, maximize).gap == a.gap == 0


@pytest.mark.parametrize("options", ["", ", cost_limit=10.0"])
def test_ctrl_c_stops_a_solve_of_a_sparse_matrix(options):
    code = (
        "from types import SimpleNamespace\n"
        "import numpy as np, bmatch\n"
        "n, rng = 500_000, np.random.default_rng(0)\n"
        "col = np.concatenate([rng.permutation(n) for _ in range(10)])\n"
        "parts = dict(row=np.tile(np.arange(n), 10), col=col, data=rng.random(10 * n))\n"
        "print('ready', flush=True)\n"
        f"bmatch.solve(SimpleNamespace(**parts, shape=(n, n)){options})\n"
        "print('finished', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(2.0)  # past what is made of the entries
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert "finished" not in out
    assert "KeyboardInterrupt" in err
