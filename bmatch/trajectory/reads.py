"""What is read of two checkpoints to find the gauge between them, and finding it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import torch

from bmatch._version import __version__
from bmatch.arrays import as_array
from bmatch.correlation.stretches import LEAST
from bmatch.estimate import Evidence, match_evidence, require_evidence, resolve_group
from bmatch.gauge import SignedPermutation
from bmatch.groups import AnyGroup
from bmatch.jobs.device import require_device
from bmatch.jobs.resume import Part, content_key
from bmatch.matching import gauge_of
from bmatch.models.activations import Sites
from bmatch.models.weight_evidence import (
    IncomparableWeightsError,
    WeightCorrelation,
    correlate_weights,
    weights_if_comparable,
)
from bmatch.stream_jobs import batches_sha256
from bmatch.stream_reading import OneBatch
from bmatch.streams import StreamCorrelation, correlate_streams
from bmatch.trajectory.hop import part_of
from bmatch.trajectory.stops import Stop, TwoModels

KIND = "hop"
"""What files that keep a hop say they are."""


@dataclass(frozen=True)
class Reads:
    """Tokens and options, the same for all hops.

    Attributes
    ----------
    batches, sites, group, skip_positions, evidence, witness
        As for `bmatch.estimate_gauge`; without the orthogonal group.
    dtype, device : str
        Of the models that are loaded: see `bmatch.models.loading.load_model`.
    """

    batches: Sequence[OneBatch]
    sites: Sites = "all"
    group: AnyGroup | Literal["auto"] = "auto"
    skip_positions: int = 1
    evidence: Evidence = "activations"
    witness: bool = True
    dtype: str = "float32"
    device: str = "cpu"
    tokens_sha256: str = field(init=False)

    def __post_init__(self) -> None:
        require_evidence(self.evidence, self.group)
        require_device(self.device, spread=True)
        if self.group == "orthogonal":
            raise ValueError("paths are products of signed permutations: no orthogonal group here")
        if isinstance(self.batches, torch.Tensor | Mapping):
            raise TypeError("batches must be a list of batches: wrap a single one in brackets")
        if self.evidence != "weights" and not self.batches:
            raise ValueError("no batches to read: give some, or take evidence='weights'")
        object.__setattr__(self, "tokens_sha256", batches_sha256(self.batches))

    def key(self, target: Stop, source: Stop) -> str:
        """Of all that decides about the gauge between two checkpoints."""
        activations = self.evidence != "weights"
        numbers = self.sites if isinstance(self.sites, str) else list(map(int, self.sites))
        return content_key(
            {
                "source": (source.digest, source.structure),
                "target": (target.digest, target.structure),
                "group": self.group,
                "evidence": self.evidence,
                "witness": self.witness,
                "version": __version__,
                "read": (
                    *(self.tokens_sha256, numbers, self.skip_positions),
                    *(self.dtype, self.device.partition(":")[0]),
                    *(["stretches"] if len(self.batches) >= LEAST else []),
                )
                if activations
                else None,
            }
        )

    def estimate(self, target: Stop, source: Stop, models: TwoModels) -> Part:
        """The gauge from source to target coordinates, and what is known of it.

        Raises
        ------
        ValueError, MemoryError
            As `bmatch.estimate_gauge`, and where a model cannot be loaded.
        """
        group = resolve_group(target.axes, source.axes, self.group)
        assert group != "orthogonal"
        weights: WeightCorrelation | None = None
        streams: StreamCorrelation | None = None
        if self.evidence != "activations":
            weights = _weights(target.held, source.held)
        if self.evidence != "weights":
            # The source is what the last hop has left there.
            ours, theirs = models.readers(source, target)
            streams = correlate_streams(theirs, ours, self.batches, self.sites, self.skip_positions)
        asked = partial(weights_if_comparable, target.held, source.held)
        found = match_evidence(group, streams, weights, asked if self.witness else None)
        by_weights: SignedPermutation | None = None
        if found.witness is not None and self.evidence != "weights":
            by_weights = gauge_of(as_array(found.witness.correlation), group)
        return part_of(found.match, by_weights)


def _weights(target: Any, source: Any) -> WeightCorrelation:
    """Where no rows are known to be the same, all are taken for such: the verdict tells."""
    try:
        return correlate_weights(target, source)
    except IncomparableWeightsError:
        return correlate_weights(target, source, rows="all")


class Task(NamedTuple):
    """A hop to find."""

    reads: Reads
    source: Stop
    target: Stop

    @property
    def key(self) -> str:
        """See `Reads.key`."""
        return self.reads.key(self.target, self.source)


def estimated(
    tasks: Sequence[Task], threads: int | None = None, device: str | None = None
) -> Iterator[tuple[str, Part]]:
    """Hops with their keys, one after the other.

    Parameters
    ----------
    tasks : sequence of Task
        Of one precision and device.
    threads : int, optional
        torch's threads in this process, where several share the cores.
    device : str, optional
        Where this process has its models. Default: where the tasks say.
    """
    if not tasks:
        return
    if threads is not None:
        torch.set_num_threads(threads)
    models = TwoModels(tasks[0].reads.dtype, device or tasks[0].reads.device)
    for task in tasks:
        try:
            part = task.reads.estimate(task.target, task.source, models)
        except ValueError as error:
            where = f"{task.source.name} -> {task.target.name}"
            raise ValueError(f"{where}: {error}") from None
        yield task.key, part
