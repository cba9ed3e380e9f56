"""Batches of problems of several sizes: each as if it came alone, and padding never read."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from fibers import built_fibers, needs_fibers, play_device
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optimality import scipy_objective

import bmatch
from bmatch.assignment.ragged import checked_sizes, without_padding


@st.composite
def ragged(draw, most=12):
    """A padded batch full of NaN beside its problems, and their sizes."""
    r = np.random.default_rng(draw(st.integers(0, 2**32)))
    problems, n, m = draw(st.tuples(st.integers(0, 6), st.integers(1, most), st.integers(1, most)))
    sizes = r.integers(0, (n + 1, m + 1), (problems, 2))
    batch = np.full((problems, n, m), np.nan, draw(st.sampled_from([np.float32, np.float64])))
    high = draw(st.sampled_from([2, 1000]))
    for matrix, (rows, cols) in zip(batch, sizes, strict=True):
        matrix[:rows, :cols] = r.integers(-high, high, (rows, cols))
    return batch, sizes


def require_best(batch, sizes, found, maximize):
    """Every problem has the sum that SciPy finds for it alone."""
    assert found.shape == batch.shape[:2]
    assert found.dtype == np.int64
    for matrix, (rows, cols), columns in zip(batch, sizes, found, strict=True):
        assert np.all(columns[rows:] == -1)
        matched = np.flatnonzero(columns >= 0)
        assert len(set(columns[matched])) == len(matched) == min(rows, cols)
        total = matrix[matched, columns[matched]].sum()
        assert total == scipy_objective(matrix[:rows, :cols], maximize)


@given(ragged(), st.booleans(), st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_each_is_solved_as_if_alone(problems, maximize, threads):
    batch, sizes = problems
    found = bmatch.batch_linear_sum_assignment(batch, maximize, sizes=sizes, num_threads=threads)
    require_best(batch, sizes, found, maximize)
    for matrix, (rows, cols), columns in zip(batch, sizes, found, strict=True):
        row_ind, col_ind = bmatch.linear_sum_assignment(matrix[:rows, :cols], maximize)
        assert np.array_equal(np.flatnonzero(columns >= 0), row_ind)
        assert np.array_equal(columns[row_ind], col_ind)


@pytest.fixture(scope="module")
def fibers(tmp_path_factory):
    return built_fibers(tmp_path_factory)


@needs_fibers
@given(ragged(20), st.booleans(), st.integers(0, 2**32))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_kernels_too(fibers, problems, maximize, seed):
    """Padding that the kernels read would make a problem invalid: it is NaN."""
    batch, sizes = problems
    fibers.seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        play_device(patch, fibers)
        found = bmatch.batch_linear_sum_assignment(torch.from_numpy(batch), maximize, sizes=sizes)
    require_best(batch, sizes, found.numpy(), maximize)


@needs_fibers
@pytest.mark.parametrize("name", ["warp", "block", "grid"])
def test_every_team_keeps_to_the_sizes(fibers, monkeypatch, name):
    play_device(monkeypatch, fibers)
    from bmatch.assignment import cuda

    monkeypatch.setattr(cuda, "team_for", lambda *_: getattr(fibers.CudaTeam, name))
    r = np.random.default_rng(5)
    sizes = np.array([[30, 40], [1, 1], [7, 40], [40, 7], [0, 9], [40, 40], [9, 0], [33, 12]])
    batch = np.full((len(sizes), 40, 40), np.nan)
    for matrix, (rows, cols) in zip(batch, sizes, strict=True):
        matrix[:rows, :cols] = r.integers(0, 50, (rows, cols))
    found = bmatch.batch_linear_sum_assignment(torch.from_numpy(batch), sizes=sizes)
    require_best(batch, sizes, found.numpy(), False)


@needs_fibers
def test_a_problem_that_its_prices_dwarf_is_solved_alone(fibers, monkeypatch):
    """Where rounding at the scale of the prices outweighs the answer, the host finds it."""
    r = np.random.default_rng(0)
    sizes = [[12, 9], [9, 12], [10, 10]]
    batch = np.full((3, 12, 12), np.nan)
    for matrix, (rows, cols) in zip(batch, sizes, strict=True):
        matrix[:rows, :cols] = 10.0 ** r.integers(-20, 20, (rows, cols))
    play_device(monkeypatch, fibers)
    found = bmatch.batch_linear_sum_assignment(torch.from_numpy(batch), sizes=sizes).numpy()
    for matrix, (rows, cols), columns in zip(batch, sizes, found, strict=True):
        matched = np.flatnonzero(columns >= 0)
        assert len(matched) == min(rows, cols)
        expected = scipy_objective(matrix[:rows, :cols])
        assert matrix[matched, columns[matched]].sum() == pytest.approx(expected, rel=1e-12)


BAD = [
    ([[2, 2]], ValueError, r"sizes has shape \(1, 2\), expected \(2, 2\): rows and columns of"),
    ([2, 2], ValueError, r"sizes has shape \(2,\), expected \(2, 2\)"),
    ([[1.0, 2.0], [1.0, 1.0]], TypeError, "sizes holds float64, expected integers"),
    ([[True, True], [True, False]], TypeError, "sizes holds bool, expected integers"),
    ([[1, 2], [4, 1]], ValueError, "problem 1 is 4 x 1, expected at least 0 and at most 3 x 4"),
    ([[1, 5], [3, 1]], ValueError, "problem 0 is 1 x 5"),
    ([[1, 2], [1, -1]], ValueError, "problem 1 is 1 x -1"),
    (np.array([[1, 2**63], [1, 1]], np.uint64), ValueError, "problem 0 is 1 x 9223372036854775808"),
]


@pytest.mark.parametrize(("sizes", "error", "message"), BAD)
def test_wrong_sizes_are_one_sentence(sizes, error, message):
    with pytest.raises(error, match=message):
        bmatch.batch_linear_sum_assignment(np.zeros((2, 3, 4)), sizes=sizes)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_sizes_are_a_list_an_array_or_a_tensor(kind):
    batch = np.arange(12.0).reshape(1, 3, 4)
    assert bmatch.batch_linear_sum_assignment(batch, sizes=kind([[2, 1]])).tolist() == [[0, -1, -1]]
    assert bmatch.batch_linear_sum_assignment(batch[:0], sizes=kind([])).shape == (0, 3)


@pytest.mark.parametrize("on_device", [False, pytest.param(True, marks=needs_fibers)])
def test_the_first_problem_without_an_answer_is_named(request, monkeypatch, on_device):
    batch = np.full((4, 3, 3), np.nan)
    batch[0, :1, :1] = 1
    batch[1, :3, :2] = [[1, np.inf], [2, np.inf], [3, np.inf]]  # taller than wide
    batch[2, :1, :2] = np.nan  # wider than tall
    batch[3] = 0
    sizes = [[1, 1], [3, 2], [1, 2], [3, 3]]
    if on_device:
        play_device(monkeypatch, request.getfixturevalue("fibers"))
        batch = torch.from_numpy(batch)
    with pytest.raises(ValueError, match=r"column 1 has no finite entry \(problem 1 of the batch"):
        bmatch.batch_linear_sum_assignment(batch, sizes=sizes)
    batch[1, :3, :2] = 0
    with pytest.raises(ValueError, match=r"invalid numeric entries \(problem 2 of the batch\)"):
        bmatch.batch_linear_sum_assignment(batch, sizes=sizes)


def test_padding_of_integers_is_not_asked_for_its_range():
    cost = np.full((1, 3, 3), np.iinfo(np.int64).min)
    cost[0, :2, :2] = 2**62 + np.array([[1, 0], [0, 1]])
    sizes = [[2, 2]]
    assert bmatch.batch_linear_sum_assignment(cost, sizes=sizes).tolist() == [[1, 0, -1]]
    assert bmatch.batch_linear_sum_assignment(torch.from_numpy(cost), sizes=sizes).tolist() == [
        [1, 0, -1]
    ]


@pytest.mark.parametrize("entry", [7, Fraction(7)])
def test_padding_becomes_an_entry_where_it_would_be_judged(entry):
    batch = np.array([[[entry, entry], [9, 9]]])
    sizes = checked_sizes([[1, 2]], batch.shape)
    assert without_padding(batch, sizes).tolist() == [[[7, 7], [7, 7]]]
    assert without_padding(batch, np.zeros((1, 2), np.int64)).tolist() == [[[0, 0], [0, 0]]]
    small = batch.astype(np.float32)
    assert without_padding(small, sizes) is small
