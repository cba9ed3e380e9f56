"""Cores shared with other processes: what is seen of them, and what is done about it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")
import torch

from bmatch import _core
from bmatch.jobs import cores

STAT = """cpu  900 0 90 9000 5 0 10 0 0 0
cpu0 100 2 30 4000 7 4 5 6 1 1
cpu1 300 0 20 3000 0 0 5 0 0 0
cpu2 500 0 40 2000 0 0 0 0 0 0
intr 12345
"""


def tasks():
    return len(list(Path("/proc/self/task").iterdir()))


def until(true, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_only_cores_of_this_process_count_and_neither_idle_nor_waiting_does():
    second = os.sysconf("SC_CLK_TCK")
    assert cores._busy_seconds(STAT, {0, 1}) * second == 100 + 2 + 30 + 4 + 5 + 6 + 300 + 20 + 5
    assert cores._busy_seconds(STAT, {2}) * second == 540


@pytest.mark.parametrize(
    ("others", "threads", "count", "wanted"),
    [
        *((0.0, 2, 2, False), (0.9, 2, 2, True), (0.1, 2, 2, False), (0.9, 2, 4, False)),
        *((2.5, 2, 4, True), (1.0, 8, 2, True), (0.0, 8, 2, False), (40.0, 32, 64, True)),
    ],
)
def test_others_count_where_the_threads_would_have_had_their_cores(others, threads, count, wanted):
    before = cores._Look(100.0, 5000.0, 70.0)
    after = cores._Look(102.0, 5000.0 + 2 * others + 1.5, 71.5)
    assert cores._others_want(cores._others(before, after), threads, count) is wanted


def test_passes_leave_others_their_cores_and_look_no_more_often_than_that_is_told(monkeypatch):
    clock, looks = [0.0], []
    others = 0.0

    def now():
        looks.append(clock[0])
        return cores._Look(clock[0], 50.0 + others * clock[0], 0.0)

    monkeypatch.setattr(cores._Look, "now", now)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    neighbours = cores.Neighbours()
    assert neighbours.threads_beside(1) == 1
    assert looks == []
    assert neighbours.threads_beside(4) == 4  # nothing is known yet
    others = 1.8
    clock[0] = 0.05
    assert neighbours.threads_beside(4) == 4
    clock[0] = 1.0
    assert [neighbours.threads_beside(n) for n in (2, 3, 4, 8)] == [2, 2, 2, 2]
    assert looks == [0.0, 1.0]
    neighbours._others = 40.0
    assert neighbours.threads_beside(8) == 1


def test_an_idle_team_lives_as_long_as_its_object():
    torch.ones(8).sum()  # torch has loaded its OpenMP
    before = tasks()
    team = _core.IdleTeam(3)
    until(lambda: tasks() == before + 3)
    del team
    until(lambda: tasks() == before)


@pytest.fixture
def standing(monkeypatch):
    """A job of two threads: how many threads stand idle for it, in a list while any do."""
    teams = []

    class Team:
        def __init__(self, threads):
            teams.append(threads)

        def __del__(self):
            teams.pop()

    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(cores, "_INTERVAL", 0.01)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(_core, "IdleTeam", Team)
    monkeypatch.setattr(cores, "_others_want", lambda *_: True)
    for name in cores._SETTINGS:
        monkeypatch.delenv(name, raising=False)
    return teams


def test_a_team_stands_idle_while_others_want_the_cores(standing, monkeypatch):
    with cores.shared_cores():
        until(lambda: standing == [3])  # with the job's two, one more than there are cores
        monkeypatch.setattr(cores, "_others_want", lambda *_: False)
        until(lambda: standing == [])
        monkeypatch.setattr(cores, "_others_want", lambda *_: True)
        until(lambda: standing == [3])
    assert standing == []


@pytest.mark.parametrize("name", sorted(cores._SETTINGS))
def test_who_has_said_how_threads_wait_is_heeded(standing, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    before = threading.active_count()
    with cores.shared_cores():
        assert threading.active_count() == before


def test_one_thread_waits_for_nobody(standing, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    before = threading.active_count()
    with cores.shared_cores():
        assert threading.active_count() == before


def test_an_error_inside_ends_the_watch(standing):
    before = threading.active_count()
    with pytest.raises(KeyError), cores.shared_cores():
        raise KeyError
    assert threading.active_count() == before
    assert standing == []
