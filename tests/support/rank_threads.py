"""Ranks that are threads of the tests' process, and hand things over by queues."""

from __future__ import annotations

import pickle
import queue
import threading
from contextlib import contextmanager

from bmatch.jobs.ranks import Ranks


class _Thread(Ranks):
    def __init__(self, rank, world, lines):
        super().__init__(rank, world)
        object.__setattr__(self, "lines", lines)

    def told(self, value=None):
        if self.first:
            for k in range(1, self.world):
                self.lines["told", k].put(pickle.dumps(value))  # as it crosses between processes
            return value
        return pickle.loads(self.lines["told", self.rank].get(timeout=60))

    def gathered(self, value):
        if self.first:
            others = [self.lines["gathered", k].get(timeout=60) for k in range(1, self.world)]
            return [value, *map(pickle.loads, others)]
        self.lines["gathered", self.rank].put(pickle.dumps(value))
        return []

    def send(self, values):
        assert values.is_contiguous()
        self.lines["sent", self.rank].put(values.clone())

    def receive(self, values, rank):
        assert values.is_contiguous()
        values.copy_(self.lines["sent", rank].get(timeout=60))


@contextmanager
def ranks_of_threads(world, serve):
    """The first of so many ranks, while the others are in ``serve(ranks)``."""
    lines = {
        (what, k): queue.Queue() for what in ("told", "gathered", "sent") for k in range(world)
    }
    others = [
        threading.Thread(target=serve, args=(_Thread(k, world, lines),), daemon=True)
        for k in range(1, world)
    ]
    for thread in others:
        thread.start()
    yield _Thread(0, world, lines)
    for thread in others:
        thread.join(60)
        assert not thread.is_alive()
