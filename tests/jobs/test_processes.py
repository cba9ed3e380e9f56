"""Work in processes: results as they come, errors as they are, none left behind."""

from __future__ import annotations

import multiprocessing
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmatch.jobs.processes import in_processes, shares


def squares(numbers):
    for number in numbers:
        yield os.getpid(), number**2


def refuses(numbers):
    yield numbers[0]
    raise ValueError(f"{numbers[0]} is no number for me")


def ends(numbers):
    yield numbers[0]
    os._exit(7)


def test_each_input_has_a_process_of_its_own():
    found = list(in_processes(squares, [[1, 2], [3, 4]]))
    assert sorted(square for _, square in found) == [1, 4, 9, 16]
    pids = {pid for pid, _ in found}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_what_a_process_raises_is_raised_here_and_the_others_end():
    with pytest.raises(ValueError, match="3 is no number for me"):
        list(in_processes(refuses, [[3]]))
    with pytest.raises(ChildProcessError, match="ended with code 7"):
        list(in_processes(ends, [[3]]))
    assert multiprocessing.active_children() == []


@given(st.lists(st.integers()), st.integers(1, 9))
def test_shares_are_runs_of_neighbours_of_nearly_one_length(tasks, count):
    cut = shares(tasks, count)
    assert [task for part in cut for task in part] == tasks
    lengths = [len(part) for part in cut]
    assert len(cut) == min(count, len(tasks))
    assert not lengths or max(lengths) - min(lengths) <= 1
    assert 0 not in lengths
