"""Work in processes: results as they come, errors as they are, none left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmatch.jobs.processes import in_processes, is_there, shares


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


def names_its_lock(numbers):
    yield multiprocessing.RLock()._semlock.name


def test_locks_have_no_names_that_would_be_left():
    """Of what is ended: Python would clear them away, and print that."""
    assert list(in_processes(names_its_lock, [[1]])) == [None]


def sleeps(numbers):
    yield os.getpid()
    time.sleep(600)


def job_of_two(told, said):
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
    os.setsid()  # Ctrl-C goes to a whole group
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for process in in_processes(sleeps, [[1], [2]]):
        told.send(process)


@pytest.fixture
def job(tmp_path):
    """A job, and the processes that work for it."""
    fresh = multiprocessing.get_context("spawn")
    ours, theirs = fresh.Pipe(duplex=False)
    job = fresh.Process(target=job_of_two, args=(theirs, tmp_path / "said"))
    job.start()
    theirs.close()
    workers = [ours.recv() for _ in range(2)]
    yield job, workers
    for process in (job.pid, *workers):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    job.join()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_none_outlives_the_job_in_the_middle_of_its_work(job, ending, tmp_path):
    job, workers = job
    os.killpg(job.pid, signal.SIGINT) if ending == signal.SIGINT else job.kill()
    job.join()
    assert job.exitcode == (1 if ending == signal.SIGINT else -signal.SIGKILL)
    until = time.monotonic() + 30
    while any(map(is_there, workers)):
        assert time.monotonic() < until
        time.sleep(0.01)
    said = (tmp_path / "said").read_text()
    assert said.count("KeyboardInterrupt\n") == (ending == signal.SIGINT)  # the job's own


@given(st.lists(st.integers()), st.integers(1, 9))
def test_shares_are_runs_of_neighbours_of_nearly_one_length(tasks, count):
    cut = shares(tasks, count)
    assert [task for part in cut for task in part] == tasks
    lengths = [len(part) for part in cut]
    assert len(cut) == min(count, len(tasks))
    assert not lengths or max(lengths) - min(lengths) <= 1
    assert 0 not in lengths
