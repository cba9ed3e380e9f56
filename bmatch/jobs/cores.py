"""Cores that a job shares with other processes: there torch's threads wait asleep.

At the end of every parallel region torch's OpenMP threads look on for milliseconds before they
sleep. Alone that is fastest; beside one busy process it makes a job of two threads on two cores
two to five times slower, since the threads that look on keep from running the one that they wait
for. Asleep they make it take about as long as one thread would. Answers are the same, to the bit.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bmatch import _core

_STAT = Path("/proc/stat")
_INTERVAL = 0.1  # seconds from look to look: time is told in jiffies of 10 ms
_TAKEN = 0.3  # cores that others take of those that the job's threads want, before it counts
_SETTINGS = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}  # of someone who has decided it otherwise


class _Look(NamedTuple):
    """Seconds by the clock, of all processes on the cores of this one, and of this one."""

    clock: float
    all: float
    own: float

    @classmethod
    def now(cls) -> _Look:
        cores = os.sched_getaffinity(0)
        return cls(time.monotonic(), _busy_seconds(_STAT.read_text(), cores), time.process_time())


def _busy_seconds(stat: str, cores: set[int]) -> float:
    """What ``/proc/stat`` tells of these cores: time neither idle nor waiting for a disk."""
    ticks = 0
    for line in stat.splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, _idle, _waiting, *interrupts = map(int, fields[:8])
            ticks += user + nice + system + sum(interrupts)
    return ticks / os.sysconf("SC_CLK_TCK")


def _others(before: _Look, after: _Look) -> float:
    """How many cores other processes took."""
    return ((after.all - before.all) - (after.own - before.own)) / (after.clock - before.clock)


def _others_want(others: float, threads: int, cores: int) -> bool:
    """Whether so many cores are others' that so many threads would have had."""
    return others - (cores - min(threads, cores)) > _TAKEN


class Neighbours:
    """What other processes leave of the cores, for passes that are shared out anew each time."""

    def __init__(self) -> None:
        self._seen: _Look | None = None
        self._others = 0.0

    def threads_beside(self, threads: int) -> int:
        """So many threads, or as many as there are cores left for, but one at least."""
        if threads == 1 or not _STAT.exists():
            return threads
        if self._seen is None:
            self._seen = _Look.now()
        elif time.monotonic() - self._seen.clock > _INTERVAL:
            now = _Look.now()
            self._seen, self._others = now, _others(self._seen, now)
        cores = len(os.sched_getaffinity(0))
        wanted = _others_want(self._others, threads, cores)
        return max(1, round(cores - self._others)) if wanted else threads


@contextmanager
def shared_cores() -> Iterator[None]:
    """While the block lasts, torch's threads wait asleep whenever others take their cores.

    Does nothing where the environment says how OpenMP's threads are to wait (``OMP_WAIT_POLICY``,
    ``GOMP_SPINCOUNT``), with a single thread, and outside Linux.
    """
    import torch

    threads = torch.get_num_threads()
    if threads == 1 or not _STAT.exists() or _SETTINGS & os.environ.keys():
        yield
        return
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(over, threads), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _watch(over: threading.Event, threads: int) -> None:
    cores = len(os.sched_getaffinity(0))
    idle: _core.IdleTeam | None = None
    before = _Look.now()
    while not over.wait(_INTERVAL):
        after = _Look.now()
        if not _others_want(_others(before, after), threads, cores):
            idle = None
        elif idle is None:
            idle = _core.IdleTeam(max(2, cores - threads + 2))  # one thread more than cores
        before = after
