"""The solver against SciPy, brute force, and its own certificate."""

from __future__ import annotations

import importlib.util
import itertools
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from optimality import assert_certified, scipy_objective

import bmatch
from bmatch import _core

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


@pytest.mark.parametrize(("n", "missing"), [(60, 5), (400, 7), (400, 40)])
def test_a_product_with_too_few_columns_names_the_rows_that_compete(n, missing):
    r = np.random.default_rng(0)
    cost = np.outer(r.random(n), r.random(n))
    cost[:, r.permutation(n)[:missing]] = np.inf
    message = f"^cost matrix is infeasible: the {n - missing + 1} rows .* in only {n - missing} col"
    with pytest.raises(ValueError, match=message):
        bmatch.linear_sum_assignment(cost)


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


@pytest.mark.parametrize("small", [0, 2**16])
def test_entries_that_must_not_be_taken_dwarf_the_answer(small):
    """Bids move prices by 1e266, beside which 1e58 and 1e202 look the same; paths alone do not."""
    gain = np.full((5, 5), -np.inf)
    gain[0, 0] = 2.563e142
    gain[1, 2:4] = 1.1849e58, 1.9395e80
    gain[2, 2:4] = 2.3715e202, 5.8858e-187
    gain[3, 2:] = 6.0228e87, 4.4548e266, 1.6659e62
    gain[4, [0, 1, 3, 4]] = 5.7279e-245, 4.6181e-129, 1.9375e25, 5.8166e-12
    solved = _core.solve(gain, _core.Sense.maximize, 1, True, None, small=small)
    assert list(solved.col_of_row) == [0, 3, 2, 4, 1]


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
            solved = _core.solve(cost, _core.Sense.minimize, 1, True, None, small=small)
            assert cost[np.arange(n), solved.col_of_row].sum() == expected


@pytest.mark.parametrize("small", [0, 2**16])
@pytest.mark.parametrize("shape", [(60, 60), (60, 100), (100, 60)])
def test_least_prices_prove_an_answer_that_its_prices_dwarf(small, shape):
    """Bids move prices by a million where a row has one good column; the least prices are small."""
    r = np.random.default_rng(8)
    n, m = shape
    cost = np.full(shape, 1e6)
    cost[:, : m // 2] = r.random((n, m // 2))
    own = np.arange(min(n, m - m // 2))
    cost[own, m // 2 + own] = 0.05
    cost[m - m // 2 :, : m // 2] /= 10
    cost = cost if n <= m else cost.T
    solved = _core.solve(cost, _core.Sense.minimize, 1, True, None, small=small)
    found = cost[np.arange(len(cost)), solved.col_of_row].sum()
    best = cost[scipy.optimize.linear_sum_assignment(cost)].sum()
    assert found == pytest.approx(best, rel=1e-13)
    assert solved.stats["augmentations"] < len(cost)  # in SciPy's order there is one a row
    assert np.abs(solved.col_dual).max() < 1e3


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
        large = _core.solve(cost, _core.Sense.minimize, 1, True, None, small=0).col_of_row
        assert cost[np.arange(n), large].sum() == cost[row_ind, col_ind].sum()


@pytest.mark.skipif(
    _core.cuda_facts().built and os.environ.get("BMATCH_CUDA") != "0", reason="built with CUDA"
)
def test_a_module_without_the_kernels_says_so():
    """`BMATCH_CUDA=0`, as `make solver-test` has it, leaves nvcc aside where it is there."""
    facts = _core.cuda_facts()
    assert (facts.built, facts.devices) == (False, 0)
    assert facts.trouble.startswith("bmatch was built without CUDA")
