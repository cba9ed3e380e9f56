"""Hops shared out to the ranks that torchrun started: neighbours to one rank, all to the first.

The first rank says who finds what, and once a round has from each the hop that it found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bmatch.jobs.phases import peak_bytes
from bmatch.jobs.processes import shares
from bmatch.jobs.ranks import Ranks
from bmatch.jobs.resume import Part
from bmatch.trajectory.reads import Task, estimated


def shared(tasks: Sequence[Task], ranks: Ranks) -> Iterator[tuple[str, Part]]:
    """Hops with their keys, as the first rank has them while the others are in `serve_hops`.

    Its own of a round comes before the others are waited for.

    Raises
    ------
    ConnectionError
        If a rank was lost.
    """
    runs = ranks.told(shares(tasks, ranks.world))
    own = estimated(runs[0] if runs else [])
    for _ in range(_rounds(runs)):
        if (found := next(own, None)) is not None:  # another's run may be longer by one
            yield found
        yield from (theirs for theirs in ranks.gathered(None)[1:] if theirs is not None)


def serve_hops(ranks: Ranks, device: str) -> None:
    """What ranks but the first do while that one is in `Trajectory.find`.

    Parameters
    ----------
    ranks : Ranks
    device : str
        Where this rank has its models.

    Raises
    ------
    ConnectionError
        If a rank was lost.
    ValueError, MemoryError
        As `Reads.estimate`.
    """
    runs: list[Sequence[Task]] = ranks.told()
    own = estimated(runs[ranks.rank] if ranks.rank < len(runs) else [], device=device)
    for _ in range(_rounds(runs)):
        ranks.gathered(next(own, None))
    ranks.gathered(peak_bytes())


def _rounds(runs: Sequence[Sequence[Task]]) -> int:
    return max(map(len, runs), default=0)
