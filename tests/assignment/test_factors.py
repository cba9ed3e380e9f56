"""Matrices from factors: the same bits however they are read, the same answers as of the matrix."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

import bmatch
from bmatch import Factors, _core
from bmatch.assignment import costs as matrices
from bmatch.assignment.costs import Costs
from bmatch.assignment.margins import margins

FACTORS: Any = Factors
"""As whoever has no types calls it."""

COSTS = ("dot", "abs_dot", "cosine", "abs_cosine", "sqeuclidean", "euclidean")


def oracle(x, y, cost):
    """The matrix up to rounding, by other means."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    if cost in ("sqeuclidean", "euclidean"):
        return cdist(x, y, cost)
    if cost.endswith("cosine"):
        x, y = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y))
    product = x @ y.T
    return np.abs(product) if cost.startswith("abs") else product


def planted(r, n, noise, common=0):
    """Activations [n, tokens], and the same in another order and with other signs."""
    tokens = 2 * n
    x = r.normal(size=(n, tokens)) + r.normal(size=(n, common)) @ r.normal(size=(common, tokens))
    y = (x * r.choice([-1.0, 1.0], (n, 1)) + noise * r.normal(size=(n, tokens)))[r.permutation(n)]
    return x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)


FAMILIES = {
    "planted": lambda r, n: (*planted(r, n, 0.5), "abs_cosine", True),
    "noisy": lambda r, n: (*planted(r, n, 8.0), "abs_cosine", True),
    "corr16": lambda r, n: (*planted(r, n, 2.0, 16), "cosine", True),
    "lowrank": lambda r, n: (*r.normal(size=(2, n, 8)), "abs_dot", True),
    "spatial": lambda r, n: (*r.uniform(size=(2, n, 2)), "euclidean", False),
    "space": lambda r, n: (*r.uniform(size=(2, n, 3)), "sqeuclidean", False),
    "product": lambda r, n: (*r.uniform(size=(2, n, 1)), "dot", False),
    "line": lambda r, n: (*r.uniform(size=(2, n, 1)), "euclidean", True),
    "grid": lambda r, n: (*r.integers(0, 9, (2, n, 2)), "sqeuclidean", False),
    "ties": lambda r, n: (*r.integers(-1, 2, (2, n, 3)), "dot", False),
    "equal rows": lambda r, n: (*r.normal(size=(2, 7, 5))[:, r.integers(0, 7, n)], "cosine", True),
    "zeros": lambda _, n: (np.zeros((n, 4)), np.zeros((n, 4)), "cosine", False),
}


def agree(factors, maximize, **options):
    """Whether an answer from factors is the answer of their matrix, and proved."""
    dense = factors.dense()
    wanted = bmatch.solve(dense, maximize, **options)
    found = bmatch.solve(factors, maximize, **options)
    scale = max(1.0, abs(dense).max(initial=0.0)) * max(min(dense.shape), 1)
    assert found.objective == pytest.approx(wanted.objective, abs=1e-12 * scale)
    total = dense[found.row_ind, found.col_ind].sum()
    assert total == pytest.approx(found.objective, abs=1e-12 * scale)
    assert found.gap <= 1e-12 * scale
    for matrix in (factors, dense):
        proof = bmatch.certify(matrix, found, maximize)
        assert proof.gap <= 1e-12 * scale
        assert proof.min_reduced_cost >= -1e-12 * scale
    return found, wanted


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cost", COSTS)
def test_entries_are_those_of_the_definition_and_one_set_of_bits(cost, dtype):
    r = np.random.default_rng(0)
    x, y = r.normal(size=(37, 19)).astype(dtype), r.normal(size=(83, 19)).astype(dtype)
    factors = Factors(x, y, cost)
    dense = factors.dense()
    np.testing.assert_allclose(dense, oracle(x, y, cost), rtol=1e-12, atol=1e-12)
    rows, cols = np.indices(dense.shape)
    bits = dense.view(np.int64)
    for other in (
        factors[rows, cols],
        factors.T.dense().T.copy(),
        np.concatenate([factors[k : k + 1] for k in range(37)]),
        np.concatenate([factors[:5], factors[5:16], factors[16:]]),
    ):
        assert np.array_equal(other.view(np.int64), bits)
    used = _core.instruction_set()
    try:
        for name in _core.instruction_sets():
            _core.use(name)
            assert np.array_equal(Factors(x, y, cost).dense().view(np.int64), bits)
    finally:
        _core.use(used)


@pytest.mark.parametrize("shape", [(60, 60), (500, 500)])
@pytest.mark.parametrize("family", FAMILIES)
def test_families_are_solved_as_their_matrices_are(family, shape):
    x, y, cost, maximize = FAMILIES[family](np.random.default_rng(3), shape[0])
    for dtype in (np.float32, np.float64):
        agree(Factors(x.astype(dtype), y.astype(dtype), cost), maximize)


@pytest.mark.parametrize("family", ["planted", "lowrank", "spatial", "ties"])
@pytest.mark.parametrize(("n", "m"), [(300, 720), (720, 300)])
def test_rectangles_and_limits(family, n, m):
    x, y, cost, maximize = FAMILIES[family](np.random.default_rng(4), max(n, m))
    factors = Factors(x[:n], y[:m], cost)
    found, _ = agree(factors, maximize)
    assert len(found.row_ind) == 300
    matched = np.sort(factors[found.row_ind, found.col_ind])
    limit = float(matched[len(matched) // 2])
    dense = factors.dense()
    wanted = bmatch.solve(dense, maximize, cost_limit=limit)
    found = bmatch.solve(factors, maximize, cost_limit=limit)
    assert len(found.row_ind) < 300

    def worth(a):
        return a.objective - limit * len(a.row_ind)

    assert worth(found) == pytest.approx(worth(wanted), abs=1e-9)
    proof = bmatch.certify(factors, found, maximize)
    assert proof.gap <= 1e-9
    assert proof.min_reduced_cost >= -1e-9


def test_square_limits_partial_and_both_ends():
    x, y, cost, maximize = FAMILIES["spatial"](np.random.default_rng(5), 500)
    factors = Factors(x, y, cost)
    for limit in (0.02, 0.05, 2.0):  # rows of their own, then clamped
        found, wanted = agree_under(factors, limit)
        assert len(found.row_ind) == len(wanted.row_ind)
    assert not bmatch.solve(factors, maximize, partial=True).partial
    assert bmatch.linear_sum_assignment(factors)[1].tolist() == (
        bmatch.solve(factors).col_ind.tolist()
    )


def agree_under(factors, limit):
    found = bmatch.solve(factors, cost_limit=limit)
    wanted = bmatch.solve(factors.dense(), cost_limit=limit)
    assert found.objective == pytest.approx(wanted.objective, abs=1e-9)
    assert bmatch.certify(factors, found).gap <= 1e-9
    return found, wanted


def test_signs_are_those_of_the_products():
    x, y, _, _ = FAMILIES["planted"](np.random.default_rng(6), 500)
    factors = Factors(x, y, "cosine")
    found = bmatch.solve(factors, sign_marginalized=True)
    wanted = bmatch.solve(factors.dense(), sign_marginalized=True)
    assert np.array_equal(found.col_ind, wanted.col_ind)
    assert np.array_equal(found.sign, wanted.sign)
    assert set(found.sign.tolist()) == {-1, 1}


@pytest.mark.parametrize("family", ["spatial", "lowrank", "ties"])
def test_threads_instruction_sets_and_caches_give_one_answer(family):
    x, y, cost, maximize = FAMILIES[family](np.random.default_rng(7), 500)
    answers = []
    used = _core.instruction_set()
    try:
        for name in _core.instruction_sets():
            _core.use(name)
            for threads, cache in ((1, 0), (2, 0), (1, 2**20), (2, 2**30)):
                factors = Factors(x, y, cost, cache_bytes=cache)
                answers.append(bmatch.solve(factors, maximize, num_threads=threads))
    finally:
        _core.use(used)
    for answer in answers[1:]:
        assert np.array_equal(answer.col_ind, answers[0].col_ind)
        assert np.array_equal(answer.col_dual, answers[0].col_dual)
        assert answer.objective == answers[0].objective


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_factors_are_solved_as_their_matrix_is(data):
    n, m = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    terms = data.draw(st.integers(0, 4))
    cost = data.draw(st.sampled_from(COSTS))
    numbers = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0, 1e-3, 1e4])
    sides = [
        np.array(data.draw(st.lists(numbers, min_size=size * terms, max_size=size * terms)))
        .reshape(size, terms)
        .astype(data.draw(st.sampled_from([np.float32, np.float64])))
        for size in (n, m)
    ]
    factors = Factors(*sides, cost)
    maximize = data.draw(st.booleans())
    sign = -1 if maximize else 1
    agree(factors, maximize)
    dense = factors.dense()
    rows, cols = linear_sum_assignment(sign * dense)
    found = bmatch.solve(factors, maximize)
    assert found.objective == pytest.approx(dense[rows, cols].sum(), rel=1e-12, abs=1e-9)
    # Lists and paths over rows that are made, which small matrices have no need of.
    if n <= m:
        large = _core.solve_factors(
            factors.source.x, factors.source.y, _core.FactorCost[cost],
            matrices.sense_of(maximize, False), 1, True, None, False, np.inf, False, 2**20, 0,
        )  # fmt: skip
        assert sign * large.objective == pytest.approx(found.objective, rel=1e-12, abs=1e-9)


def test_margins_are_those_of_the_matrix():
    x, y, cost, maximize = FAMILIES["lowrank"](np.random.default_rng(8), 60)
    factors = Factors(x, y, cost)
    sense = matrices.sense_of(maximize, False)
    answer = bmatch.solve(factors, maximize)
    by_rows = Factors.from_blocks(lambda first, count: factors[first : first + count], (60, 60))
    wanted = margins(Costs.of(factors.dense(), sense), answer)
    for given_by in (factors, by_rows):
        found = margins(Costs.of(given_by, sense), answer)
        np.testing.assert_allclose(found[0], wanted[0], atol=1e-12)


@pytest.mark.parametrize("n", [80, 600])
def test_blocks_from_a_function(n):
    """A product of BLAS, whose rounding depends on how many rows it is asked for."""
    r = np.random.default_rng(9)
    x, y = r.normal(size=(n, 33)), r.normal(size=(n + 40, 33))
    asked = set()

    def rows(first, count):
        asked.add((first, count))
        return x[first : first + count] @ y.T

    factors = Factors.from_blocks(rows, (n, n + 40))
    found = bmatch.solve(factors, True)
    assert {first % 64 for first, _ in asked} == {0}
    assert {count for _, count in asked} <= {64, n % 64}
    assert found.objective == pytest.approx(bmatch.solve(x @ y.T, True).objective, rel=1e-12)
    assert bmatch.certify(factors, found, True).gap <= 1e-9
    assert np.array_equal(factors[3:70], factors.dense()[3:70])
    assert np.array_equal(factors[[5, 79], [7, 8]], factors.dense()[[5, 79], [7, 8]])


def test_blocks_with_forbidden_pairs():
    r = np.random.default_rng(10)
    cost = np.where(r.uniform(size=(500, 500)) < 0.5, np.inf, r.uniform(size=(500, 500)))
    cost[:3, 2:], cost[:3, :2] = np.inf, 1.0
    factors = Factors.from_blocks(lambda first, count: cost[first : first + count], cost.shape)
    with pytest.raises(ValueError, match="cost matrix is infeasible: the"):
        bmatch.solve(factors)
    found = bmatch.solve(factors, partial=True)
    wanted = bmatch.solve(cost, partial=True)
    assert found.partial
    assert len(found.row_ind) == len(wanted.row_ind) == 499
    assert found.objective == pytest.approx(wanted.objective, rel=1e-12)
    assert bmatch.certify(factors, found, partial=True).gap <= 1e-9


def test_what_a_function_raises_ends_the_solve():
    def rows(first, count):
        if first >= 128:
            raise LookupError("no more rows")
        return np.ones((count, 600))

    with pytest.raises(LookupError, match="no more rows"):
        bmatch.solve(Factors.from_blocks(rows, (600, 600)), num_threads=2)
    short = Factors.from_blocks(lambda first, count: np.ones((count, 599)), (600, 600))
    with pytest.raises(ValueError, match=r"returned shape \(64, 599\) for rows 0 to 63, expected"):
        bmatch.solve(short)
    wrong = np.ones((600, 600))
    wrong[444, 55] = np.nan
    spoiled = Factors.from_blocks(lambda first, count: wrong[first : first + count], wrong.shape)
    with pytest.raises(ValueError, match=r"nan in row 444, column 55$"):
        bmatch.solve(spoiled)


def test_types_that_are_widened_once():
    torch = pytest.importorskip("torch")
    x, y = torch.randn(2, 40, 6, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float16, torch.bfloat16):
        narrow = x.to(dtype), y.to(dtype)
        found = bmatch.solve(Factors(*narrow), True)
        wanted = bmatch.solve(Factors(*(side.float().numpy() for side in narrow)), True)
        assert isinstance(found.col_ind, torch.Tensor)
        assert found.col_ind.tolist() == wanted.col_ind.tolist()
    mixed = Factors(x.numpy(), y.double().numpy(), "euclidean")
    assert np.array_equal(mixed.dense(), Factors(x.double(), y.double(), "euclidean").dense())


def test_cosines_of_rows_of_any_size():
    r = np.random.default_rng(11)
    x, y = r.normal(size=(2, 9, 5))
    far = Factors(x * np.logspace(-300, 300, 9)[:, None], y * 1e-200, "cosine").dense()
    np.testing.assert_allclose(far, oracle(x, y, "cosine"), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda x: FACTORS(x, x, "manhattan"), ValueError, "cost must be one of 'dot', "),
        (lambda x: Factors(x, x[:, :3]), ValueError, "as many columns, the terms of a cost"),
        (lambda x: Factors(x, x[0]), ValueError, r"y must be a matrix \[rows, terms\]"),
        (lambda x: Factors(x * np.nan, x), ValueError, "x contains .*: nan in row 0, column 0"),
        (lambda x: Factors(x, x / 0.0), ValueError, "y contains .*: .* in row 0, column 0"),
        (lambda x: Factors(x + 1j, x), TypeError, "x must be real numbers"),
        (lambda x: Factors(x, x, cache_bytes=-1), ValueError, "cache_bytes must be at least 0"),
        (lambda x: FACTORS(x, x, cache_bytes="1 GB"), TypeError, "cache_bytes must be an int"),
        (lambda _: Factors.from_blocks(max, (5, 4)), ValueError, "make the columns of a tall"),
        (lambda _: FACTORS.from_blocks(max, 5), TypeError, "shape must be two whole numbers"),
        (lambda _: FACTORS.from_blocks([], (4, 5)), TypeError, "function must be callable"),
        (lambda x: np.asarray(Factors(x, x)), TypeError, r"not made unasked: Factors.dense\(\)"),
        (lambda x: Factors(x, x)[0, 99], IndexError, "columns run from 0 to 5, got 99 to 99"),
        (lambda x: Factors(x, x)[::2], ValueError, "one after another"),
        (lambda x: Factors(x, x)["a"], TypeError, r"are read by \[a:b\]"),
        (lambda x: list(FACTORS(x, x)), TypeError, r"are read by \[a:b\]"),
        (
            lambda x: bmatch.solve(Factors(x, x), nonfinite="forbid"),
            ValueError,
            "of factors there is none",
        ),
        (
            lambda x: bmatch.solve(Factors(x, x), backend="cuda"),
            ValueError,
            "does not take factors yet",
        ),
        (lambda x: bmatch.match(Factors(x, x)), TypeError, "not made unasked"),
        (
            lambda x: bmatch.batch_linear_sum_assignment(Factors(x, x)),
            ValueError,
            "expected a batch of matrices",
        ),
    ],
)
def test_bad_input_is_one_sentence(make, error, message):
    with pytest.raises(error, match=message), np.errstate(all="ignore"):
        make(np.ones((6, 4)))


def test_tensors_on_a_device_are_refused():
    class Elsewhere:
        __cuda_array_interface__ = None

    with pytest.raises(ValueError, match=r"x is on a CUDA device.*pass x\.cpu\(\)"):
        Factors(Elsewhere(), np.ones((3, 2)))


def test_memory_is_that_of_factors_and_lists():
    """n = 6000: the matrix would take 288 MB."""
    code = """
import resource, numpy as np, bmatch
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
r = np.random.default_rng(0)
bmatch.solve(bmatch.Factors(*r.uniform(size=(2, 700, 2)), 'euclidean'))
before = peak()
x = r.normal(size=(6000, 16)).astype(np.float32)
y = x[r.permutation(6000)] + np.float32(0.4) * r.normal(size=(6000, 16)).astype(np.float32)
a = bmatch.solve(bmatch.Factors(x, y, 'cosine', cache_bytes=2**24), True)
bmatch.solve(bmatch.Factors(x, y, 'cosine', cache_bytes=2**24), True, cost_limit=0.5)
print(peak() - before, a.gap)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    megabytes, gap = done.stdout.split()
    assert int(megabytes) < 80
    assert float(gap) <= 1e-9


@pytest.fixture
def ctrl_c():
    """As in the foreground: jobs in the background inherit an ignored SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_stops_a_solve():
    r = np.random.default_rng(12)
    factors = Factors(*r.normal(size=(2, 30_000, 300)).astype(np.float32), "cosine")
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        bmatch.solve(factors, True)
    timer.join()


def test_repr_names_what_is_there():
    factors = Factors(np.ones((2, 3)), np.ones((5, 3)), "abs_dot")
    assert repr(factors) == "Factors('abs_dot', terms=3, dtype=float64, shape=(2, 5))"
