"""Room that threads share: never more is taken than there is, but for one alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock

import pytest

from bmatch.files.room import Room


def test_no_more_is_taken_than_there_is():
    room, lock, taken, most = Room(100), Lock(), [], []

    def task(size):
        with room.taken(size):
            with lock:
                taken.append(size)
                most.append(sum(taken))
            with lock:
                taken.remove(size)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(task, [30, 60, 7, 90, 100, 1] * 40))
    assert max(most) <= 100


def test_one_alone_may_take_more_and_others_wait_till_it_makes_do_with_less():
    room, inside = Room(10), Event()

    def other():
        with room.taken(5):
            inside.set()

    with ThreadPoolExecutor(1) as pool, room.taken(25) as keep:
        waiting = pool.submit(other)
        assert not inside.wait(0.05)
        keep(5)
        assert inside.wait(10)
        waiting.result()


def test_what_fails_gives_its_room_back():
    room = Room(1)
    with pytest.raises(ValueError, match="broken"), room.taken(1):
        raise ValueError("broken")
    with room.taken(1):
        pass
