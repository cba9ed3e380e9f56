"""Ranks that meet in a store where those of earlier starts have met, or died before they did."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import HashStore, PrefixStore

from bmatch.jobs.meeting import met

LONG, SHORT = timedelta(minutes=1), timedelta(seconds=0.2)


def meeting(store, world, order):
    """The names that each of the ranks goes by, which come in this order."""
    with ThreadPoolExecutor(world) as pool:
        running = {rank: pool.submit(met, store, rank, world, LONG) for rank in order}
        return [running[rank].result() for rank in range(world)]


@pytest.mark.parametrize("world", [2, 4])
def test_every_start_has_a_name_of_its_own(world):
    store = HashStore()
    seen = set()
    for order in (range(world), reversed(range(world)), range(world)):
        names = meeting(store, world, order)
        assert len(set(names)) == 1
        assert names[0] not in seen
        seen.add(names[0])


def test_those_who_came_alone_and_died_are_not_met_again():
    store = HashStore()
    with pytest.raises(ConnectionError, match="rank 1 of the job has not come"):
        met(store, 0, 2, SHORT)
    with pytest.raises(ConnectionError, match="rank 0 of the job has not come"):
        met(store, 1, 2, SHORT)
    first, second = meeting(store, 2, range(2))
    assert first == second


def test_corners_hold_what_their_own_start_wrote():
    store = HashStore()
    for start in range(2):
        corners = [PrefixStore(name, store) for name in meeting(store, 2, range(2))]
        assert not corners[1].check(["address"])
        corners[0].set("address", str(start))
        assert corners[1].get("address") == str(start).encode()
