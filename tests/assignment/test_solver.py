"""The solver against SciPy, brute force, and its own certificate."""

from __future__ import annotations

import importlib.util
import itertools
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from signals import heed_ctrl_c

import bmatch
from bmatch import _core
from bmatch.assignment.solver import rematch_losses

DTYPES = ["float64", "float32", "float16", "int64", "int32", "int8", "uint8", "uint64", "bool"]


def scipy_objective(cost, maximize=False):
    return cost[scipy.optimize.linear_sum_assignment(cost, maximize)].astype(np.float64).sum()


def assert_certified(cost, a, maximize=False, sign_marginalized=False):
    """Feasible duals, tight on the matching, zero on what is unmatched: optimality itself."""
    c = np.asarray(cost, dtype=np.float64)
    c = -np.abs(c) if sign_marginalized else -c if maximize else c
    flip = -1.0 if maximize or sign_marginalized else 1.0
    u, v = flip * np.asarray(a.row_dual), flip * np.asarray(a.col_dual)
    scale = max(np.abs(c[np.isfinite(c)]).max(initial=0.0), 1e-300)
    assert (c - u[:, None] - v).min(initial=0.0) >= -1e-12 * scale
    n, m = c.shape
    matched = c[a.row_ind, a.col_ind]
    assert np.all(matched - u[a.row_ind] - v[a.col_ind] <= 1e-12 * scale * max(n, m))
    if n < m:
        unmatched = np.setdiff1d(np.arange(m), a.col_ind)
        assert np.all(v <= 0)
        assert np.all(v[unmatched] == 0)
    if n > m:
        unmatched = np.setdiff1d(np.arange(n), a.row_ind)
        assert np.all(u <= 0)
        assert np.all(u[unmatched] == 0)
    assert abs(flip * a.objective - matched.sum()) <= 1e-12 * max(scale, np.abs(matched).sum())
    assert abs(matched.sum() - u.sum() - v.sum()) <= 1e-10 * scale * max(n, m)
    assert 0 <= a.gap <= 1e-12 * scale * max(n, m)


entries = st.one_of(
    st.integers(-3, 3).map(float), st.floats(-1e6, 1e6, width=32), st.sampled_from([0.0, 0.5])
)
shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))
matrices = shapes.flatmap(lambda shape: hnp.arrays(np.float64, shape, elements=entries))


@given(matrices, st.booleans())
@settings(max_examples=400)
def test_objective_equals_scipy_with_a_certificate(cost, maximize):
    a = bmatch.solve(cost, maximize=maximize)
    expected = scipy_objective(cost, maximize)
    assert a.objective == pytest.approx(expected, rel=1e-12, abs=1e-9)
    assert_certified(cost, a, maximize)
    row_ind, col_ind = bmatch.linear_sum_assignment(cost, maximize)
    assert np.array_equal(row_ind, np.sort(row_ind))
    assert cost[row_ind, col_ind].sum() == pytest.approx(expected, rel=1e-12, abs=1e-9)


@given(matrices)
@settings(max_examples=200)
def test_sign_marginalized_matches_magnitudes(cost):
    a = bmatch.solve(cost, sign_marginalized=True)
    assert a.objective == pytest.approx(scipy_objective(np.abs(cost), True), rel=1e-12, abs=1e-9)
    assert_certified(cost, a, sign_marginalized=True)
    assert np.array_equal(a.sign, np.where(cost[a.row_ind, a.col_ind] < 0, -1, 1))


@given(matrices, st.data())
@settings(max_examples=300)
def test_forbidden_pairs_agree_with_scipy(cost, data):
    forbidden = data.draw(hnp.arrays(bool, cost.shape))
    cost = np.where(forbidden, np.inf, cost)
    try:
        expected = scipy_objective(cost)
    except ValueError:
        with pytest.raises(ValueError, match="cost matrix is infeasible") as error:
            bmatch.solve(cost)
        assert_hall_violation(cost, str(error.value))
    else:
        assert bmatch.solve(cost).objective == pytest.approx(expected, rel=1e-12, abs=1e-9)


def assert_hall_violation(cost, message):
    """The rows (or columns) that the message names do reach fewer columns than they are many."""
    by_column = "column" in message.split(":")[1].split("have")[0].split("has")[0]
    names = message.split(":")[1].replace(",", " ").split()
    numbers = [
        int(word)
        for word in itertools.takewhile(lambda w: w not in ("have", "has"), names)
        if word.isdigit()
    ]
    if "the" in names:
        numbers = numbers[1:]  # the first number is how many follow
    lines = (cost.T if by_column else cost)[numbers]
    assert len(numbers) == len(set(numbers)) > np.isfinite(lines).any(axis=0).sum()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(40, 40), (25, 60), (60, 25), (1, 7), (7, 1)])
def test_every_dtype_and_shape(dtype, shape):
    cost = np.random.default_rng(3).integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)
    a = bmatch.solve(cost)
    assert a.objective == scipy_objective(cost.astype(np.float64))
    assert_certified(cost, a)
    assert a.row_ind.dtype == a.col_ind.dtype == a.col_of_row.dtype == np.int64
    assert np.array_equal(np.flatnonzero(a.col_of_row >= 0), a.row_ind)
    assert np.array_equal(a.col_of_row[a.row_ind], a.col_ind)


def test_strided_input_is_read_in_place_and_never_written():
    base = np.random.default_rng(0).standard_normal((60, 90))
    before = base.copy()
    for view in (base.T, base[::2, ::-3], base[::-1], np.asfortranarray(base)):
        view.flags.writeable = False
        assert bmatch.solve(view).objective == pytest.approx(scipy_objective(view), rel=1e-13)
    fields = np.zeros((20, 20), dtype=[("a", "f8"), ("b", "i1")])
    fields["a"] = base[:20, :20]
    assert bmatch.solve(fields["a"]).objective == pytest.approx(scipy_objective(base[:20, :20]))
    swapped = base[:20, :20].astype(">f8")
    assert bmatch.solve(swapped).objective == pytest.approx(scipy_objective(base[:20, :20]))
    assert np.array_equal(base, before)


@pytest.mark.parametrize("shape", [(8, 8), (5, 9), (9, 5)])
@pytest.mark.parametrize("maximize", [False, True])
def test_constant_matrix_gives_the_identity(shape, maximize):
    row_ind, col_ind = bmatch.linear_sum_assignment(np.full(shape, 2.5), maximize)
    assert np.array_equal(row_ind, np.arange(5 if 5 in shape else 8))
    assert np.array_equal(col_ind, row_ind)


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (4, 0)])
def test_empty(shape):
    a = bmatch.solve(np.empty(shape))
    assert len(a.row_ind) == len(a.col_ind) == 0
    assert len(a.col_of_row) == shape[0]
    assert np.all(a.col_of_row == -1)
    assert a.objective == a.gap == 0.0


@pytest.mark.parametrize("family", ["uniform", "planted", "spatial", "product", "lowrank", "ties"])
def test_families_of_medium_size(family):
    r = np.random.default_rng(11)
    n = 200
    if family == "planted":
        x = r.standard_normal((4 * n, n))
        y = x[:, r.permutation(n)] * r.choice([-1, 1], n) + 0.5 * r.standard_normal((4 * n, n))
        cost = -np.corrcoef(x.T, y.T)[:n, n:]
    else:
        cost = {
            "uniform": lambda: r.random((n, n)),
            "spatial": lambda: np.linalg.norm(r.random((n, 1, 2)) - r.random((1, n, 2)), axis=-1),
            "product": lambda: np.outer(r.random(n), r.random(n)),
            "lowrank": lambda: -np.abs(r.standard_normal((n, 8)) @ r.standard_normal((8, n))),
            "ties": lambda: r.integers(0, 3, (n, n)),
        }[family]()
    for cast in (np.float32, np.float64):
        c = cost.astype(cast)
        a = bmatch.solve(c)
        assert a.objective == pytest.approx(scipy_objective(c.astype(np.float64)), rel=1e-12)
        assert_certified(c, a)


def test_torch_tensors_come_back_as_tensors():
    torch = pytest.importorskip("torch")

    cost = torch.rand(30, 40, generator=torch.Generator().manual_seed(0))
    kinds = cost.double(), cost.bfloat16(), cost.half(), cost.T, cost.clone().requires_grad_()
    for tensor in (cost, *kinds):
        a = bmatch.solve(tensor)
        expected = scipy_objective(tensor.detach().double().numpy())
        assert isinstance(a.row_ind, torch.Tensor)
        assert a.col_of_row.dtype == torch.int64
        assert a.objective == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="cost matrix is on meta"):
        bmatch.solve(torch.empty(3, 3, device="meta"))


@pytest.mark.parametrize(
    ("cost", "error", "message"),
    [
        ([1, 2, 3], ValueError, r"expected a matrix \(2-D array\), got a 1 array"),
        (np.zeros((2, 2, 2)), ValueError, r"expected a matrix \(2-D array\), got a 3 array"),
        (np.array([["a", "b"], ["c", "d"]]), TypeError, "Cannot cast array data from dtype"),
        (np.eye(2) * 1j, TypeError, r"Cannot cast array data from dtype\('complex128'\)"),
        (np.eye(2, dtype=object), TypeError, r"Cannot cast array data from dtype\('O'\)"),
        ([[np.nan, 1], [1, 2]], ValueError, "matrix contains invalid numeric entries"),
        ([[-np.inf, 1], [1, 2]], ValueError, "matrix contains invalid numeric entries"),
        ([[np.inf, np.inf], [1, 2]], ValueError, "infeasible: row 0 has no finite entry"),
        ([[1, np.inf], [1, np.inf]], ValueError, "the 2 rows 0, 1 have finite entries in only 1"),
        ([[1], [np.inf], [np.inf]], None, None),
        ([[np.inf]] * 3, ValueError, "infeasible: column 0 has no finite entry"),
    ],
)
def test_bad_input(cost, error, message):
    if error is None:
        assert np.array_equal(bmatch.solve(cost).col_of_row, [0, -1, -1])
        return
    with pytest.raises(error, match=message):
        bmatch.linear_sum_assignment(cost)
    if error is TypeError or "2-D" in message:
        with pytest.raises(error):
            scipy.optimize.linear_sum_assignment(cost)


def test_infinities_by_direction():
    with pytest.raises(ValueError, match="invalid numeric entries"):
        bmatch.solve([[np.inf, 1], [1, 2]], maximize=True)
    with pytest.raises(ValueError, match="invalid numeric entries"):
        bmatch.solve([[-np.inf, 1], [1, 2]], sign_marginalized=True)
    assert bmatch.solve([[-np.inf, 1], [1, 2]], maximize=True).objective == 2


def test_wide_integers_are_exact_or_refused():
    near = 2**62 + np.array([[0, 1], [1, 0]]) * 3
    a = bmatch.solve(near, maximize=True)
    assert np.array_equal(a.col_ind, [1, 0])
    assert a.objective == float(2 * (2**62 + 3))
    assert np.array_equal(bmatch.linear_sum_assignment(near)[1], [0, 1])
    unsigned = np.array([[2**64 - 1, 2**64 - 2], [2**64 - 2, 2**64 - 2]], dtype=np.uint64)
    assert np.array_equal(bmatch.linear_sum_assignment(unsigned)[1], [1, 0])
    with pytest.raises(ValueError, match=r"further apart than float64 tells apart \(2\*\*53\)"):
        bmatch.solve(np.array([[0, 2**60 + 1], [1, 3]]))


def wide_integers(shape, low, dtype="int64", seed=0):
    """Integers that float64 does not tell apart, as Python integers too."""
    r = np.random.default_rng(seed)
    cost = (r.integers(0, 50, shape).astype(object) + low).astype(dtype)
    return cost, cost.astype(object)


def exact_optimum(whole, best):
    """By enumeration over the short side, in Python's integers."""
    short = whole if whole.shape[0] <= whole.shape[1] else whole.T
    columns = itertools.permutations(range(short.shape[1]), len(short))
    return best(sum(short[i, j] for i, j in enumerate(p)) for p in columns)


WIDE = [(2**62, "int64"), (-(2**62), "int64"), (-(2**53) - 60, "int64"), (2**64 - 50, "uint64")]


@pytest.mark.parametrize(("low", "dtype"), WIDE)
@pytest.mark.parametrize("shape", [(5, 5), (4, 6), (6, 4)])
@pytest.mark.parametrize("how", ["minimize", "maximize", "sign_marginalized"])
def test_wide_integers_in_every_sense(low, dtype, shape, how):
    cost, whole = wide_integers(shape, low, dtype)
    options = {} if how == "minimize" else {how: True}
    wanted = abs(whole) if how == "sign_marginalized" else whole
    best = exact_optimum(wanted, min if how == "minimize" else max)
    for matrix in (cost, np.asfortranarray(cost)):
        a = bmatch.solve(matrix, **options)
        assert sum(wanted[a.row_ind, a.col_ind]) == best
        assert a.objective == float(best)  # to the last bit, however many pairs
        assert a.gap == 0
        if how == "sign_marginalized":
            assert np.array_equal(a.sign, np.full(min(shape), 1 if low > 0 else -1))
        slack = wanted.astype(float) - (a.row_dual[:, None] + a.col_dual)
        slack = slack if how == "minimize" else -slack
        assert slack.min() >= -2 * np.spacing(float(abs(low)))  # duals are float64
        assert bmatch.solve(matrix, **options, warm_start=a).objective == a.objective
        for answer in (a, (a.row_ind, a.col_ind)):
            c = bmatch.certify(matrix, answer, **options)
            assert c.objective == c.bound == float(best)
            assert c.gap == 0
            assert c.min_reduced_cost == 0
        worse = a.row_ind, np.roll(a.col_ind, 1)
        c = bmatch.certify(matrix, worse, **options)
        assert c.gap == abs(best - sum(wanted[worse])) > 0
        assert c.objective == float(sum(wanted[worse]))


def test_wide_integers_in_batches_margins_and_matches():
    cost, whole = wide_integers((6, 6), 2**61, seed=3)
    moved = (whole - 2**61).astype(np.float64)
    out = bmatch.batch_linear_sum_assignment(np.stack([cost, cost.T]), maximize=True)
    assert sum(whole[np.arange(6), out[0]]) == exact_optimum(whole, max)
    assert sum(whole.T[np.arange(6), out[1]]) == exact_optimum(whole, max)
    for options in ({}, {"maximize": True}, {"sign_marginalized": True}):
        loss, exact = rematch_losses(cost, bmatch.solve(cost, **options), **options)
        expected, _ = rematch_losses(moved, bmatch.solve(moved, **options), **options)
        assert exact.all()
        assert np.array_equal(loss, expected)
    loss, _ = rematch_losses(
        -cost, bmatch.solve(-cost, sign_marginalized=True), sign_marginalized=True
    )
    assert np.array_equal(loss, expected)
    with pytest.raises(ValueError, match=r"holds integers beyond 2\*\*53"):
        bmatch.match(cost)


def test_entries_beyond_32_bit_positions():
    side = 46_341  # side**2 > 2**31
    memory = mmap.mmap(-1, side * side * 4)  # zeros that take no memory until written
    whole = np.frombuffer(memory, dtype=np.float32).reshape(side, side)
    view = whole[:: (side - 1) // 4]
    wanted = np.array([7, side - 1, 3, 40_000, side - 2])
    view[np.arange(5), wanted] = -1
    row_ind, col_ind = bmatch.linear_sum_assignment(view)
    assert np.array_equal(row_ind, np.arange(5))
    assert np.array_equal(col_ind, wanted)
    assert bmatch.solve(view[:, -9:], sign_marginalized=True).objective == 2
    assert whole.T[side - 1, (side - 1) // 4] == -1


def test_answers_do_not_depend_on_the_number_of_threads():
    r = np.random.default_rng(5)
    for cost in (r.random((700, 700)), r.integers(0, 100, (600, 800)).astype(np.float32)):
        answers = [bmatch.solve(cost, num_threads=k) for k in (1, 2, 5)]
        for a in answers[1:]:
            assert np.array_equal(a.col_of_row, answers[0].col_of_row)
            assert np.array_equal(a.col_dual, answers[0].col_dual)
            assert np.array_equal(a.row_dual, answers[0].row_dual)
    with pytest.raises(ValueError, match="num_threads must be at least 1, got 0"):
        bmatch.solve(np.eye(2), num_threads=0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_can_solve_with_threads():
    cost = np.random.default_rng(0).random((400, 400))
    expected = bmatch.solve(cost, num_threads=3).objective
    child = os.fork()
    if child == 0:
        os._exit(0 if bmatch.solve(cost, num_threads=3).objective == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_warm_start_reads_less_and_checks_its_shape():
    r = np.random.default_rng(2)
    before = np.linalg.norm(r.random((600, 1, 2)) - r.random((600, 2)), axis=-1)
    after = before + 1e-4 * r.random((600, 600))
    a = bmatch.solve(before)
    cold, warm = bmatch.solve(after), bmatch.solve(after, warm_start=a)
    assert warm.objective == pytest.approx(cold.objective, rel=1e-13)
    assert_certified(after, warm)
    assert warm.stats["bids"] < cold.stats["bids"] / 2
    flipped = bmatch.solve(-after, maximize=True, warm_start=bmatch.solve(-before, maximize=True))
    assert flipped.objective == pytest.approx(-cold.objective, rel=1e-13)
    with pytest.raises(ValueError, match=r"shape \(600, 600\), expected \(5, 5\)"):
        bmatch.solve(np.eye(5), warm_start=a)


def test_stats_count_what_was_done():
    stats = bmatch.solve(np.random.default_rng(0).random((500, 500))).stats
    assert stats["passes"] >= 1
    assert stats["bids"] > 0
    for phase in ("first_pass", "auction", "path", "certificate"):
        assert stats[f"{phase}_seconds"] >= 0


@pytest.mark.parametrize("shape", [(8, 8), (20, 9), (9, 20), (70, 70)])
def test_certify_any_solvers_answer(shape):
    cost = np.random.default_rng(1).integers(0, 30, shape).astype(np.float64)
    pairs = scipy.optimize.linear_sum_assignment(cost, True)
    for answer in (pairs, bmatch.solve(cost, maximize=True)):
        c = bmatch.certify(cost, answer, maximize=True)
        assert c.objective == c.bound == cost[pairs].sum()
        assert c.gap == 0
        assert c.min_reduced_cost == 0
    worse = pairs[0], np.roll(pairs[1], 1)
    c = bmatch.certify(cost, worse, maximize=True)
    assert c.gap == c.bound - c.objective > 0
    with pytest.raises(ValueError, match="no matching of the matrix of shape"):
        bmatch.certify(cost, (pairs[0], np.zeros_like(pairs[1])))
    a = bmatch.solve(cost, sign_marginalized=True)
    assert bmatch.certify(cost, a, sign_marginalized=True).gap == 0


@pytest.mark.parametrize("shape", [(7, 7), (5, 9), (9, 5), (0, 3), (3, 0)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
def test_batches_are_single_solves(shape, dtype):
    cost = np.random.default_rng(4).integers(-50, 50, (30, *shape)).astype(dtype)
    for maximize in (False, True):
        out = bmatch.batch_linear_sum_assignment(cost, maximize, num_threads=3)
        assert out.dtype == np.int64
        assert out.shape == (30, shape[0])
        for c, col_of_row in zip(cost, out, strict=True):
            assert np.array_equal(col_of_row, bmatch.solve(c, maximize).col_of_row)
    strided = np.moveaxis(np.asfortranarray(cost), 0, 0)
    assert np.array_equal(bmatch.batch_linear_sum_assignment(strided, True), out)


def test_batches_of_tensors_and_bad_batches():
    torch = pytest.importorskip("torch")

    cost = torch.rand(6, 12, 12, generator=torch.Generator().manual_seed(0))
    out = bmatch.batch_linear_sum_assignment(cost)
    assert isinstance(out, torch.Tensor)
    assert np.array_equal(out.numpy(), bmatch.batch_linear_sum_assignment(cost.numpy()))
    with pytest.raises(ValueError, match=r"a batch of matrices \(3-D array\), got a 2 array"):
        bmatch.batch_linear_sum_assignment(np.eye(3))
    bad = np.ones((40, 2, 2))
    bad[[20, 30], 1] = np.inf
    message = r"infeasible: row 1 has no finite entry \(problem 20 of the batch\)"
    with pytest.raises(ValueError, match=message):
        bmatch.batch_linear_sum_assignment(bad, num_threads=4)
    bad[13, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"invalid numeric entries \(problem 13"):
        bmatch.batch_linear_sum_assignment(bad, num_threads=4)
    assert bmatch.batch_linear_sum_assignment(np.empty((0, 4, 4))).shape == (0, 4)


def brute_force_losses(cost):
    """Loss of every row if its matched pair is forbidden, over all assignments. Minimising."""
    n, m = cost.shape
    best = bmatch.solve(cost)
    totals = [
        (sum(cost[i, p[i]] for i in range(n)), p) for p in itertools.permutations(range(m), n)
    ]
    return np.array(
        [
            min((t for t, p in totals if p[i] != best.col_of_row[i]), default=np.inf)
            - best.objective
            for i in range(n)
        ]
    )


@given(
    st.tuples(st.integers(1, 5), st.integers(0, 2)).flatmap(
        lambda s: hnp.arrays(
            np.float64, (s[0], s[0] + s[1]), elements=st.integers(-8, 8).map(float)
        )
    )
)
@settings(max_examples=200)
def test_rematch_losses_equal_brute_force(cost):
    a = bmatch.solve(cost)
    loss, exact = rematch_losses(cost, a)
    assert exact.all()
    assert np.allclose(loss, brute_force_losses(cost), atol=1e-9)
    mirrored, _ = rematch_losses(-cost, bmatch.solve(-cost, maximize=True), maximize=True)
    assert np.allclose(loss, mirrored, atol=1e-9)
    bounded, finished = rematch_losses(cost, a, search_limit=2)
    assert np.all(bounded <= loss + 1e-9)
    assert np.allclose(bounded[finished], loss[finished], atol=1e-9)


def test_rematch_losses_of_another_matrix_are_refused():
    cost = np.random.default_rng(0).random((9, 9))
    for other in (cost[:3, :3], cost[:3], np.random.default_rng(0).random((3, 3000))):
        with pytest.raises(ValueError, match=r"not one of this matrix, whose shape is \(9, 9\)"):
            rematch_losses(cost, bmatch.solve(other))


def test_rematch_losses_want_the_short_side_as_rows():
    cost = np.random.default_rng(0).random((4, 2))
    with pytest.raises(ValueError, match=r"shape \(4, 2\): pass the transpose"):
        rematch_losses(cost, bmatch.solve(cost))


def test_scipys_own_test_module_passes(tmp_path):
    """SciPy's tests, copied from the installed SciPy, with bmatch's function in its place."""
    origin = importlib.util.find_spec("scipy.optimize.tests.test_linear_assignment").origin
    source = Path(origin).read_text()
    line = "from scipy.optimize import linear_sum_assignment\n"
    assert source.count(line) == 1
    copy = tmp_path / "test_scipy_linear_assignment.py"
    copy.write_text(source.replace(line, "from bmatch import linear_sum_assignment\n"))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(copy)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout
    assert "skipped" not in run.stdout


def slow_cost():
    x = np.random.default_rng(0).random((3000, 1))
    return x @ x.T  # many alternating paths for each row


@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc for fresh pages")
def test_a_solve_works_in_the_memory_of_the_last_one():
    code = (
        "import resource, numpy as np, bmatch\n"
        "cost = np.random.default_rng(0).random((2000, 2000), np.float32)\n"
        "def pages():\n"
        "    bmatch.linear_sum_assignment(cost)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "pages()\n"
        "print(-pages() + pages())\n"
    )
    # What is not kept goes back to the system, whatever this process allocates besides.
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "32768"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 100  # lists alone take 190


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can start the peak anew")
@pytest.mark.parametrize("sign_marginalized", [False, True])
def test_a_solve_takes_a_twentieth_of_the_matrix_at_most(sign_marginalized):
    code = (
        "import numpy as np, bmatch\n"
        "from bmatch.jobs.phases import phase\n"
        "cost = np.random.default_rng(0).random((4096, 4096), np.float32)\n"
        "bmatch.linear_sum_assignment(np.eye(2))\n"
        "phases = []\n"
        "with phase('before', phases):\n"
        "    pass\n"
        "with phase('solve', phases):\n"
        f"    bmatch.solve(cost, sign_marginalized={sign_marginalized})\n"
        "print((phases[1].peak_bytes - phases[0].peak_bytes) / cost.nbytes)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < float(done.stdout) < 0.05


def test_gil_is_released_while_solving():
    cost = slow_cost()[:1200, :1200]
    done = threading.Event()

    def work():
        bmatch.solve(cost)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    ticks = 0
    while not done.is_set():
        ticks += 1
        time.sleep(0.001)
    thread.join()
    assert ticks > 3


def test_ctrl_c_stops_a_solve():
    code = (
        "import numpy as np, bmatch\n"
        "x = np.random.default_rng(0).random((6000, 1))\n"
        "print('ready', flush=True)\n"
        "bmatch.solve(x @ x.T)\n"
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
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert "finished" not in out
    assert "KeyboardInterrupt" in err


def test_answers_are_the_same_on_every_run_and_from_many_threads():
    cost = np.random.default_rng(1).integers(0, 5, (150, 150)).astype(np.float32)
    expected = bmatch.solve(cost)
    answers = []

    def work():
        answers.append(bmatch.solve(cost))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    for a in answers:
        assert np.array_equal(a.col_of_row, expected.col_of_row)
        assert np.array_equal(a.col_dual, expected.col_dual)


@pytest.mark.parametrize("small", [0, 2**16])
def test_entries_that_must_not_be_taken_dwarf_the_answer(small):
    """Bids move prices by 1e266, beside which 1e58 and 1e202 look the same; paths alone do not."""
    gain = np.full((5, 5), -np.inf)
    gain[0, 0] = 2.563e142
    gain[1, 2:4] = 1.1849e58, 1.9395e80
    gain[2, 2:4] = 2.3715e202, 5.8858e-187
    gain[3, 2:] = 6.0228e87, 4.4548e266, 1.6659e62
    gain[4, [0, 1, 3, 4]] = 5.7279e-245, 4.6181e-129, 1.9375e25, 5.8166e-12
    _, col_of_row, *_ = _core.solve(gain, _core.Sense.maximize, 1, True, None, small=small)
    assert list(col_of_row) == [0, 3, 2, 4, 1]


@pytest.mark.parametrize("small", [0, 2**16])
@pytest.mark.parametrize("never", [2.0**31 - 1, 2.0**46])
def test_prices_that_dwarf_the_answer_do_no_harm_to_costs_on_a_grid(small, never):
    """Up to the size that rounding at the prices' scale reaches; beyond, and off the grid, it is
    solved again."""
    r = np.random.default_rng(6)
    for n in (20, 60, 130):
        possible = r.random((n, n)) < 3 / n
        possible[np.arange(n), r.permutation(n)] = True
        cost = np.where(possible, r.integers(0, 1000, (n, n)), never)
        for off in (0.0, 2.0**-40):
            cost[0, 0] += off
            expected = cost[scipy.optimize.linear_sum_assignment(cost)].sum()
            _, col, *_ = _core.solve(cost, _core.Sense.minimize, 1, True, None, small=small)
            assert cost[np.arange(n), col].sum() == expected


def test_where_float64_holds_no_sum_of_the_costs_the_answer_is_scipys():
    r = np.random.default_rng(5)
    for _ in range(300):
        n = int(r.integers(2, 14))
        m = n + int(r.choice([0, 0, 1, 5]))
        cost = 10.0 ** r.uniform(-300, 300, (n, m)) * r.choice([-1, 1], (n, m))
        cost = np.asfortranarray(cost) if r.random() < 0.3 else cost
        row_ind, col_ind = scipy.optimize.linear_sum_assignment(cost)
        answer = bmatch.solve(cost)
        assert cost[answer.row_ind, answer.col_ind].sum() == cost[row_ind, col_ind].sum()
        _, large, *_ = _core.solve(cost, _core.Sense.minimize, 1, True, None, small=0)
        assert cost[np.arange(n), large].sum() == cost[row_ind, col_ind].sum()
