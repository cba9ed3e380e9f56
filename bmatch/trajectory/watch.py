"""A run that is watched while it trains: a hop as each checkpoint appears, drift and alarms.

From one checkpoint of a run to the next no coordinate should move. Where one does, either training
went so far between the two that they cannot be told apart, or something was renumbered.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmatch.gauge import SignedPermutation, compose
from bmatch.jobs.resume import KeptParts
from bmatch.models.checkpoint import Checkpoint, open_checkpoint
from bmatch.models.runs import Place, find_run
from bmatch.stream_reading import OneBatch
from bmatch.trajectory.hop import Hop
from bmatch.trajectory.reads import KIND, Reads
from bmatch.trajectory.stops import Stop, TwoModels, open_stops

FEW = 0.9
"""The share of coordinates expected to be right below which an alarm is raised."""

_LONGEST = 86_400  # seconds from look to look


class Seen(NamedTuple):
    """A checkpoint that appeared.

    Attributes
    ----------
    place : Place
    hop : Hop or None
        To it from the one before, if there was one.
    broken : str or None
        What is wrong with it; it is passed over.
    """

    place: Place
    hop: Hop | None
    broken: str | None


class Watch:
    """Hops from checkpoint to checkpoint, as they come.

    Parameters
    ----------
    batches : sequence
        As for `Trajectory`.
    cache_dir : path, optional
        As for `Trajectory`, with which it is shared.
    tell : callable, optional
        As for `Trajectory`.
    **reads
        sites, group, skip_positions, evidence, witness, dtype and device, as for `Trajectory`.

    Attributes
    ----------
    hops : list of Hop
        So far.
    """

    def __init__(
        self,
        batches: Sequence[OneBatch] = (),
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        tell: Callable[[str], object] = warnings.warn,
        **reads: Any,
    ) -> None:
        self._reads = Reads(batches, **reads)
        self._kept = None if cache_dir is None else KeptParts(cache_dir, KIND, tell)
        self._models = TwoModels(self._reads.dtype, self._reads.device)
        self._last: Stop | None = None
        self.hops: list[Hop] = []

    def see(self, checkpoint: Any) -> Hop | None:
        """The hop to a checkpoint from the one seen before; None for the first.

        Also None where it has the same weights, or the one before was deleted meanwhile: then the
        path begins anew.

        Parameters
        ----------
        checkpoint : path, Place or Stop
            A folder that is written in full.

        Raises
        ------
        FileNotFoundError, ValueError
            If it is missing, damaged, or of another architecture. What was seen stays.
        """
        stop = Stop.of(checkpoint)
        if self._last is not None:
            open_stops([self._last, stop])  # of one architecture
        before, self._last = self._last, stop
        if before is None or before.digest == stop.digest:
            return None
        if isinstance(before.held, Checkpoint) and not before.held.folder.is_dir():
            self.hops.clear()
            return None
        key = self._reads.key(stop, before)
        part = None if self._kept is None else self._kept.get(key)
        if part is None:
            part = self._reads.estimate(stop, before, self._models)
            if self._kept is not None:
                self._kept.keep(key, *part)
        self.hops.append(Hop.of(part, before, stop))
        return self.hops[-1]

    def follow(
        self,
        run: str | os.PathLike[str],
        *,
        every: float = 30.0,
        until: int | None = None,
        patience: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Iterator[Seen]:
        """See the checkpoints of a run as they appear, in the order of their steps.

        What is not whole is looked at again, until it is or a later one has come.

        Parameters
        ----------
        run : path
            As for `bmatch.models.runs.find_run`; it need not be there yet.
        every : float
            Seconds from look to look.
        until : int, optional
            The last step; the iteration ends with it. Default: none.
        patience : float, optional
            Seconds without a new one after which it ends; 0 takes what is there. Default: for ever.
        sleep : callable, optional
            What waits.

        Raises
        ------
        ValueError
            If the order of checkpoints is not known, they are of several architectures, or cannot
            read the tokens; if `every` or `patience` is no time.
        """
        _require_times(every, patience)
        told: set[Path] = set()
        waited = 0.0
        while True:
            over = patience is not None and waited >= patience
            fresh = [place for place in _there(run) if place.folder not in told]
            for number, place in enumerate(fresh, 1):
                try:
                    stop = Stop.of(place)
                except (FileNotFoundError, ValueError) as error:
                    if number == len(fresh) and not over:
                        break  # it may be in writing
                    told.add(place.folder)
                    yield Seen(place, None, str(error))
                    continue
                told.add(place.folder)
                waited = 0.0
                yield Seen(place, self.see(stop), None)
                if until is not None and place.step is not None and place.step >= until:
                    return
            if over:
                return
            sleep(every)
            waited += every

    @property
    def gauge(self) -> SignedPermutation | None:
        """From the first checkpoint to the last; None before there are two."""
        return compose([hop.gauge for hop in reversed(self.hops)]) if self.hops else None

    @property
    def drift(self) -> int:
        """Coordinates that stand elsewhere, or have another sign, than at the first checkpoint."""
        if (path := self.gauge) is None:
            return 0
        return int(np.count_nonzero((path.perm != np.arange(path.dim)) | (path.sign == -1)))


def alarms(hop: Hop) -> list[str]:
    """What is wrong with a hop of one run, a sentence each; nothing of most."""
    where = f"{hop.source.name} -> {hop.target.name}"
    if hop.verdict != "related":
        return [f"{where}: {hop.verdict}, {hop.expected_recovered:.0%} expected to be right"]
    said = []
    if hop.expected_recovered < FEW:
        said.append(
            f"{where}: {hop.expected_recovered:.0%} expected to be right: save more often, or read "
            "more tokens"
        )
    if hop.changed:
        least = float(hop.margin.min(initial=np.inf))
        said.append(
            f"{where}: {hop.changed} coordinates moved or turned their sign (least margin "
            f"{least:.3f})"
        )
    return said


def appeared(
    run: str | os.PathLike[str],
    *,
    every: float = 30.0,
    patience: float | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Checkpoint:
    """The first whole checkpoint of a run, when it is there; parameters as of `Watch.follow`.

    Raises
    ------
    FileNotFoundError
        If none comes in time.
    ValueError
        If `every` or `patience` is no time.
    """
    _require_times(every, patience)
    waited = 0.0
    while True:
        for place in _there(run):
            try:
                return open_checkpoint(place.folder, place.beside)
            except (FileNotFoundError, ValueError):
                continue
        if patience is not None and waited >= patience:
            raise FileNotFoundError(f"no whole checkpoint has appeared in {run}")
        sleep(every)
        waited += every


def _require_times(every: float, patience: float | None) -> None:
    if not 0.0 < every <= _LONGEST:
        raise ValueError(f"every must be above 0 and at most {_LONGEST} seconds, got {every}")
    if patience is not None and not patience >= 0.0:
        raise ValueError(f"patience must be 0 seconds or more, got {patience}")


def _there(run: str | os.PathLike[str]) -> list[Place]:
    try:
        return find_run(run)
    except FileNotFoundError:
        return []
