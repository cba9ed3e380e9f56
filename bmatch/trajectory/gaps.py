"""Where a run was saved more seldom than around it: a path is worth what its longest hop is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from bmatch.trajectory.hop import Hop


class Gap(NamedTuple):
    """A hop over more steps than those beside it.

    Attributes
    ----------
    hop : Hop
    between : (int, int)
        Steps of its two checkpoints, the earlier first.
    usual : int
        Steps of the longest hop beside it.
    """

    hop: Hop
    between: tuple[int, int]
    usual: int

    def __str__(self) -> str:
        low, high = self.between
        name = max(self.hop.source, self.hop.target, key=lambda stop: stop.step or 0).name
        run = name.rpartition("/")[0] or name
        return (
            f"{run} has no checkpoint between steps {low} and {high}, and {self.usual} steps lie "
            f"between others beside these: one there would make two shorter hops of this one "
            f"({self.hop.expected_recovered:.1%} expected to be right)"
        )


def gaps(hops: Sequence[Hop]) -> list[Gap]:
    """Hops over at least twice the steps of both neighbours; of one neighbour, more than twice.

    So a run that is saved at powers of two has none. Neighbours are hops of the same direction in
    step numbers: those back along one run and on along another are told apart.
    """
    found = []
    for direction, group in groupby(hops, _direction):
        if direction == 0:
            continue
        run = [(hop, _between(hop)) for hop in group]
        spans = [high - low for _, (low, high) in run]
        for k, (hop, between) in enumerate(run):
            beside = spans[max(0, k - 1) : k] + spans[k + 1 : k + 2]
            if beside and spans[k] >= 2 * max(beside) + (len(beside) == 1):
                found.append(Gap(hop, between, max(beside)))
    return found


def _direction(hop: Hop) -> int:
    """-1 back, 1 on, 0 where a step is not known."""
    a, b = hop.source.step, hop.target.step
    return 0 if a is None or b is None else (b > a) - (b < a)


def _between(hop: Hop) -> tuple[int, int]:
    a, b = hop.source.step, hop.target.step
    assert a is not None
    assert b is not None
    return min(a, b), max(a, b)
