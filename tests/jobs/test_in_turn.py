"""Tasks in their order, several at once, until one fails."""

from __future__ import annotations

import threading
import time

import pytest

from bmatch.jobs.in_turn import OverError, in_turn


@pytest.mark.parametrize("threads", [1, 3])
def test_all_are_done_and_begun_in_their_order(threads):
    begun = []
    in_turn([lambda k=k: begun.append(k) for k in range(20)], threads)
    assert sorted(begun) == list(range(20))
    assert threads > 1 or begun == sorted(begun)


def test_the_first_failure_is_told_and_ends_the_others():
    over, begun = threading.Event(), []

    def waits():
        begun.append("waits")
        assert over.wait(10)
        raise OverError

    def fails():
        begun.append("fails")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        in_turn([waits, fails, *[lambda: begun.append("late")] * 5], 2, over.set)
    assert begun[:2] == ["waits", "fails"]
    assert over.is_set()


def test_who_gives_up_before_the_failure_is_raised_is_not_told():
    over = threading.Event()

    def gives_up():
        assert over.wait(10)
        raise OverError

    def fails():
        over.set()
        time.sleep(0.1)
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        in_turn([gives_up, fails], 2)
