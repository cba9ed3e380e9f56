"""The way between two runs of one base: back along the one, and on along the other."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from bmatch.jobs.progress import Progress, silent
from bmatch.models.runs import find_run
from bmatch.trajectory.stops import Stop, open_stops


class Turn(NamedTuple):
    """Checkpoints from the end of one run to that of another.

    Attributes
    ----------
    stops : list of Stop
        The last of run A, ..., the base, ..., the last of run B.
    base : int
        Where among them the base is.
    """

    stops: list[Stop]
    base: int


def path_between(
    run_a: str | os.PathLike[str],
    run_b: str | os.PathLike[str],
    base: str | os.PathLike[str] | None = None,
    *,
    skip_broken: bool = False,
    progress: Progress = silent,
    tell: Callable[[str], None] | None = None,
) -> Turn:
    """Find the checkpoints of two runs, and the one where the two part.

    Parameters
    ----------
    run_a, run_b : path
        As for `bmatch.models.runs.find_run`.
    base : path, optional
        The checkpoint that both started from. Default: the last one that both hold, by the content
        of the weights.
    skip_broken, progress, tell
        As for `bmatch.trajectory.stops.open_stops`.

    Raises
    ------
    FileNotFoundError, ValueError
        If a run or a checkpoint is missing or damaged, the two do not fit together, or share no
        checkpoint and none is named.
    """
    options = {"skip_broken": skip_broken, "progress": progress, "tell": tell}
    places = [find_run(run) for run in (run_a, run_b)]
    named = [] if base is None else open_stops(find_run(base), progress=progress)
    if len(named) > 1:
        raise ValueError(f"{base} holds {len(named)} checkpoints: name one of them as the base")
    a, b = (open_stops(run, **options) for run in places)  # type: ignore[arg-type]
    if named:
        at, beyond = _index(a, named[0].digest), _index(b, named[0].digest)
        before, after = a[at + 1 :], b[beyond + 1 :]
        turning = named[0]
    else:
        shared = {stop.digest for stop in b}
        common = [k for k, stop in enumerate(a) if stop.digest in shared]
        if not common:
            raise ValueError(
                f"{run_a} and {run_b} share no checkpoint: name the one that both started from "
                "with --base"
            )
        turning = a[common[-1]]
        before, after = a[common[-1] + 1 :], b[_index(b, turning.digest) + 1 :]
    stops = [*reversed(before), turning, *after]
    if len(stops) < 2:
        raise ValueError(f"{run_a} and {run_b} are one checkpoint: there is no path to go")
    open_stops(stops)  # of one architecture
    return Turn(stops, len(before))


def _index(stops: list[Stop], digest: str) -> int:
    """Where the checkpoint of this content is, -1 if nowhere; the last, if in several places."""
    return max((k for k, stop in enumerate(stops) if stop.digest == digest), default=-1)
