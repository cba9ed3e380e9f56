"""Answers in terms of the matrix that was given, and as a start for the next one."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from optimality import assert_certified

import bmatch
from bmatch import _core
from bmatch.assignment.answer import Answer, assignment_of
from bmatch.assignment.costs import Costs


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


def test_answers_on_a_device_are_turned_back_there():
    """A tensor on the host plays the device's: what comes back is made of tensors alone."""
    torch = pytest.importorskip("torch")
    cost = np.random.default_rng(0).random((7, 4))
    expected = bmatch.solve(cost, maximize=True)
    costs = Costs.of_device(torch.from_numpy(cost), _core.Sense.maximize)
    row_of_col = np.argsort(expected.col_of_row)[-4:]  # after the rows without a column
    found = Answer(row_of_col, -expected.col_dual, -expected.row_dual, -expected.objective, 0.0, {})
    a = assignment_of(costs, found.to("cpu"))
    for name in ("row_ind", "col_ind", "col_of_row", "row_dual", "col_dual"):
        assert isinstance(getattr(a, name), torch.Tensor)
        assert np.array_equal(getattr(a, name), getattr(expected, name))
    assert a.objective == expected.objective


def test_answers_pickled_before_there_were_rooms_are_read():
    """Pickles name a class by its path, which then was bmatch.assignment.Assignment."""
    written = pickle.dumps(bmatch.solve(np.eye(3), sign_marginalized=True), protocol=0)
    path = b"cbmatch.assignment.answer\nAssignment\n"
    assert written.count(path) == 1
    read = pickle.loads(written.replace(path, b"cbmatch.assignment\nAssignment\n"))
    assert type(read) is bmatch.Assignment
    assert read.col_of_row.tolist() == [0, 1, 2]
    assert read.sign.dtype == np.int8


@pytest.mark.parametrize("greatest", [1e308, 1.7e308, 1e300])
@pytest.mark.parametrize("n", [20, 600])
def test_a_start_from_duals_of_any_size_is_as_good(n, greatest):
    cost = np.random.default_rng(0).random((n, n))
    a = bmatch.solve(cost)
    prices = np.where(np.arange(n) % 7 == 0, greatest, -greatest)
    again = bmatch.solve(cost, warm_start=dataclasses.replace(a, col_dual=prices))
    assert again.objective == pytest.approx(a.objective, rel=1e-14)
    assert_certified(cost, again)


def test_a_start_that_is_no_answer_is_refused_in_a_sentence():
    with pytest.raises(TypeError, match=r"^warm_start must be an Assignment, as bmatch\.solve"):
        bmatch.solve(np.eye(2), warm_start=(np.zeros(2), np.zeros(2)))
