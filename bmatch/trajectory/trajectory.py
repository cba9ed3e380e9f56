"""A path of local gauges through saved checkpoints, and what it is held against.

Between checkpoints that are near each other activations match where the ends of two runs do not;
the product of such hops leads from end to end. The same reads give the match of the two ends, the
way by the base alone, and what weights say. J. Sweeney, "Signed-Permutation Coordinate Transport
for RMSNorm Transformers", arXiv 2606.31963.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch

from bmatch._version import __version__
from bmatch.correlation.stretches import LEAST
from bmatch.estimate import Evidence
from bmatch.footprint import job_bytes
from bmatch.gauge import SignedPermutation, compose
from bmatch.groups import AnyGroup
from bmatch.jobs.processes import in_processes, shares
from bmatch.jobs.progress import Progress, silent
from bmatch.jobs.ranks import ALONE, Ranks
from bmatch.jobs.resume import KeptParts, Part
from bmatch.models.activations import Reader, Sites, pair_sites
from bmatch.models.checkpoint import Checkpoint
from bmatch.stream_reading import OneBatch, correlation_bytes, ids_of
from bmatch.trajectory.gaps import gaps
from bmatch.trajectory.hop import Hop
from bmatch.trajectory.reads import KIND, Reads, Task, estimated
from bmatch.trajectory.shared import shared
from bmatch.trajectory.stops import Stop, open_stops

SURE = 0.95
"""The share of coordinates expected to be right below which a hop is warned of. On tiny fine-tunes
with a stride so wide that paths break, it was 0.70 to 0.87 at the hop that was wrong, and 0.895 at
least where all were right."""


class Trajectory:
    """Gauges along checkpoints, each found once, on first use.

    Parameters
    ----------
    checkpoints : sequence
        From the source to the target of the path: checkpoint folders, transformers models that are
        in memory, or what `path_between` found. Neighbours of the same weights count as one.
    batches : sequence of int64 [B, T], or of mappings with input_ids and attention_mask
        Token ids that all of them read. Needless for ``evidence="weights"``.
    base : int, optional
        Which of the checkpoints two runs started from. Default: none is a base.
    back : sequence of batches, optional
        Other tokens, which the way back is read with: see `consistency`.
    sites, group, skip_positions, evidence, witness
        As for `bmatch.estimate_gauge`, without the orthogonal group.
    dtype, device : str
        Of the models that are loaded: float32, bfloat16 or float16; ``cpu`` or a CUDA device.
    cache_dir : path, optional
        Where hops are kept under a key of content (weights, tokens, options), so that a job that
        was ended goes on. Default: they are not. Where it is full or cannot be written, that is
        told, and the job goes on.
    jobs : int
        Processes that share the hops, with two models each.
    skip_broken : bool
        Whether a checkpoint that is missing or damaged is left out, not refused.
    progress : callable, optional
        How to show how far it has come (see `bmatch.jobs.progress`).
    tell : callable, optional
        Is given a sentence where hops cannot be kept. Default: it is a warning.

    Raises
    ------
    FileNotFoundError, ValueError
        If a checkpoint is missing or damaged, they are of several architectures, fewer than two are
        left, or an option makes no sense.

    Notes
    -----
    Two models are in memory at once, or those of the caller.
    """

    def __init__(
        self,
        checkpoints: Sequence[Any],
        batches: Sequence[OneBatch] = (),
        *,
        base: int | None = None,
        back: Sequence[OneBatch] | None = None,
        sites: Sites = "all",
        group: AnyGroup | Literal["auto"] = "auto",
        skip_positions: int = 1,
        evidence: Evidence = "activations",
        witness: bool = True,
        dtype: str = "float32",
        device: str = "cpu",
        cache_dir: str | os.PathLike[str] | None = None,
        jobs: int = 1,
        skip_broken: bool = False,
        progress: Progress = silent,
        tell: Callable[[str], object] = warnings.warn,
    ) -> None:
        made = partial(
            Reads,
            sites=sites,
            group=group,
            skip_positions=skip_positions,
            evidence=evidence,
            witness=witness,
            dtype=dtype,
            device=device,
        )
        self._reads = made(batches)
        self._back = None if back is None else made(back)
        if jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {jobs}")
        turning = None if base is None else Stop.of(checkpoints[base])
        self.stops = tuple(open_stops(checkpoints, skip_broken=skip_broken, progress=progress))
        if len(self.stops) < 2:
            raise ValueError("a path needs two different checkpoints at least")
        if jobs > 1:
            self._require_folders("in one process: take jobs=1, or folders")
        self._base = None if turning is None else self._place_of(turning)
        self._kept = None if cache_dir is None else KeptParts(cache_dir, KIND, tell)
        self._jobs, self._progress = jobs, progress
        self._parts: dict[str, Part] = {}

    def _place_of(self, stop: Stop) -> int | None:
        """Where among the stops a checkpoint is, if between the ends."""
        inner = self.stops[1:-1]
        return next((k for k, s in enumerate(inner, 1) if s.digest == stop.digest), None)

    # -- hops -----------------------------------------------------------------------------

    @cached_property
    def hops(self) -> tuple[Hop, ...]:
        """From each checkpoint to the next."""
        return self._found(self._tasks())

    @cached_property
    def endpoint(self) -> Hop:
        """The two ends, matched with each other."""
        return self._found(self._tasks(ends=True))[0]

    @cached_property
    def via_base(self) -> tuple[Hop, Hop] | None:
        """From the source to the base, and from there to the target; None without a base."""
        if self._base is None:
            return None
        there, back = self._found(self._tasks(ends=True)[1:])
        return there, back

    def find(self, ranks: Ranks = ALONE) -> None:
        """Find everything in one go, which shares processes and models best.

        Parameters
        ----------
        ranks : Ranks
            This is the first; the others are in `bmatch.trajectory.shared.serve_hops`. What is
            found does not depend on how many there are, to the bit.

        Raises
        ------
        ConnectionError
            If a rank was lost: what was kept until then is not.
        ValueError
            If models are in memory, which other ranks cannot read, or `jobs` is more than 1.
        """
        if ranks.world > 1:
            self._require_folders("by one rank: give folders")
            if self._jobs > 1:
                raise ValueError(f"ranks share the hops: leave jobs at 1, got {self._jobs}")
        self._found(self._all_tasks(), ranks)

    @property
    def foreseen_bytes(self) -> int:
        """The largest resident memory that is foreseen of a process in `find`, on the CPU.

        See `bmatch.footprint.job_bytes`. 0 where no model is to be loaded: hops are kept or by
        weights alone, or models are those of the caller; and on a CUDA device.
        """
        reads = self._reads
        left = self._missing(self._all_tasks())
        pairs = [
            [held for held in (task.source.held, task.target.held) if isinstance(held, Checkpoint)]
            for task in left.values()
        ]
        hollow = any(len(models) < 2 for models in pairs)
        if not pairs or hollow or reads.evidence == "weights" or reads.device != "cpu":
            return 0
        axes = self.stops[0].axes
        batches = [*reads.batches, *(self._back.batches if self._back is not None else ())]
        largest = max(map(ids_of, batches))
        sizes = len(pair_sites(axes.num_layers, axes.num_layers, reads.sites)), axes.dim, largest
        sums = correlation_bytes(*sizes, torch.device("cpu"), len(reads.batches) >= LEAST)
        return max(job_bytes(models, reads.dtype, largest, sums) for models in pairs)

    def _require_folders(self, who: str) -> None:
        """Refuse models in memory, which other processes cannot read."""
        if any(isinstance(stop.held, Reader) for stop in self.stops):
            raise ValueError(f"models in memory are read {who}")

    def _all_tasks(self) -> list[Task]:
        return [*self._tasks(), *self._tasks(back=True), *self._tasks(ends=True)]

    def _tasks(self, *, ends: bool = False, back: bool = False) -> list[Task]:
        stops = self.stops
        if back:
            reads = self._back
            pairs = zip(stops[1:], stops[:-1], strict=True)
            return [] if reads is None else [Task(reads, *pair) for pair in reversed([*pairs])]
        if not ends:
            return [Task(self._reads, *pair) for pair in pairwise(stops)]
        # In this order each has a model in common with the one before it.
        turning = [] if self._base is None else [stops[self._base]]
        pairs_of = [(stops[0], stops[-1]), *((stops[0], s) for s in turning)]
        pairs_of += [(s, stops[-1]) for s in turning]
        return [Task(self._reads, *pair) for pair in pairs_of]

    def _found(self, tasks: Sequence[Task], ranks: Ranks = ALONE) -> tuple[Hop, ...]:
        missing = self._missing(tasks)
        found = self._estimated([*missing.values()], ranks)
        for _ in self._progress([*missing], "Hops") if missing else ():
            key, part = next(found)
            self._parts[key] = part
            if self._kept is not None:
                self._kept.keep(key, *part)
        next(found, None)  # to its end, where ranks meet
        return tuple(Hop.of(self._parts[task.key], task.source, task.target) for task in tasks)

    def _missing(self, tasks: Sequence[Task]) -> dict[str, Task]:
        """Those hops that are neither found nor kept, by their keys."""
        missing = {key: task for task in tasks if (key := task.key) not in self._parts}
        if self._kept is not None:
            for key in [*missing]:
                if (part := self._kept.get(key)) is not None:
                    self._parts[key] = part
                    del missing[key]
        return missing

    def _estimated(self, tasks: Sequence[Task], ranks: Ranks) -> Iterator[tuple[str, Part]]:
        if ranks.world > 1:
            return shared(tasks, ranks)
        if self._jobs == 1 or not tasks:
            return estimated(tasks)
        parts = shares(tasks, self._jobs)
        threads = max(1, torch.get_num_threads() // len(parts))
        return in_processes(partial(estimated, threads=threads), parts)

    # -- what they come to ----------------------------------------------------------------

    def gauge(self) -> SignedPermutation:
        """The product of the hops, from the first to the last checkpoint's coordinates.

        Its metadata hold hops, steps and hashes, the verdict and the weakest hop.
        """
        hops = self.hops
        path: SignedPermutation = compose([hop.gauge for hop in reversed(hops)])
        weakest = self.weakest
        read = ("evidence", "tokens", "sites", "matched_group", "model_type")
        note = {key: hops[0].gauge.metadata[key] for key in read if key in hops[0].gauge.metadata}
        path.metadata.update(
            **note,
            route="path",
            verdict=self.verdict,
            expected_recovered=f"{weakest.expected_recovered:.4f}",
            weakest=f"{weakest.source.name} -> {weakest.target.name}",
            steps=" ".join("?" if s.step is None else str(s.step) for s in self.stops),
            hops=json.dumps([hop.figures() for hop in hops], separators=(",", ":")),
            bmatch_version=__version__,
        )
        if self._base is not None:
            path.metadata["base"] = self.stops[self._base].name
        return path

    @property
    def verdict(self) -> str:
        """That of the weakest hop: ``related`` where all are."""
        return self.weakest.verdict

    @property
    def weakest(self) -> Hop:
        """The hop that holds least, which decides what the path is worth."""
        return min(self.hops, key=lambda hop: hop.strength)

    @cached_property
    def routes(self) -> dict[str, SignedPermutation]:
        """From the first to the last checkpoint by each way that there is.

        ``path``, ``endpoint``, ``via base``, and ``weights``: the ends matched by weights alone.
        """
        found = {"path": self.gauge(), "endpoint": self.endpoint.gauge}
        if (turn := self.via_base) is not None:
            found["via base"] = compose([turn[1].gauge, turn[0].gauge])
        if self.endpoint.by_weights is not None:
            found["weights"] = self.endpoint.by_weights
        return found

    @cached_property
    def consistency(self) -> dict[str, float]:
        """How far ways agree that ought to be one: shares of coordinates, no truth needed.

        Each other route against the path: a cycle, of which the share closes. ``way back`` is that
        of forward hops against hops found backward; the same tokens would give the same answer, so
        it reads those of `back`, and is missing without.
        """
        path = self.routes["path"]
        shares_of = {
            f"path, {name}": path.agreement(gauge)
            for name, gauge in self.routes.items()
            if name != "path"
        }
        if backward := self._found(self._tasks(back=True)):
            returned: SignedPermutation = compose([hop.gauge for hop in reversed(backward)])
            shares_of["way back"] = path.agreement(returned.inverse())
        return shares_of

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """The weakest hop, if it is not to be relied on; gaps in the numbers of steps."""
        told = [str(gap) for gap in gaps(self.hops)]
        hop = self.weakest
        if hop.expected_recovered < SURE:
            where = f"between {hop.source.name} and {hop.target.name}"
            told.insert(
                0,
                f"the weakest hop is {hop.source.name} -> {hop.target.name} ({hop.verdict}, "
                f"{hop.expected_recovered:.1%} expected to be right, least margin "
                f"{hop.margin.min(initial=np.inf):.3f}): a checkpoint {where}, or more tokens, "
                "would have helped",
            )
        return tuple(told)
