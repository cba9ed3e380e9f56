"""Two checkpoint folders in, the gauge between them out: what ``bmatch align`` does.

Everything that can be refused is refused before weights are loaded. The gauge notes where it
comes from: both folders, their weights' digests, what was read and how.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

import torch

from bmatch.architecture.axes import ResidualAxes
from bmatch.architecture.premise import Premise
from bmatch.architecture.rotating import require_rotations
from bmatch.correlation.stretches import LEAST
from bmatch.estimate import (
    Evidence,
    fixes_ones,
    match_evidence,
    match_rotation,
    require_evidence,
    resolve_group,
)
from bmatch.footprint import job_bytes
from bmatch.gauge import SignedPermutation
from bmatch.groups import AnyGroup
from bmatch.jobs.device import first_device, require_device
from bmatch.jobs.phases import peak_bytes
from bmatch.jobs.progress import Progress, silent
from bmatch.jobs.ranks import ALONE, Ranks
from bmatch.jobs.resume import KeptState
from bmatch.matching import GaugeMatch
from bmatch.models.activations import SitePair, Sites, pair_sites, require_same_width
from bmatch.models.checkpoint import (
    Checkpoint,
    checked_digest,
    open_checkpoint,
    tested_gains,
)
from bmatch.models.shared_text import batches_for_both, require_in_vocabulary
from bmatch.models.text import (
    AlignedBatch,
    default_text,
    file_text,
    title_of,
)
from bmatch.models.weight_evidence import (
    WeightCorrelation,
    correlate_weights,
    weights_if_comparable,
)
from bmatch.orthogonal import OrthogonalGauge
from bmatch.procrustes import OrthogonalMatch
from bmatch.stream_jobs import Plan, kept_state, reader_of
from bmatch.stream_reading import correlation_bytes, require_memory
from bmatch.streams import Job, StreamCorrelation, correlate_streams


@dataclass(frozen=True, eq=False)
class Alignment:
    """What `align_checkpoints` found.

    Attributes
    ----------
    match : GaugeMatch, or OrthogonalMatch for the orthogonal group
        Its gauge maps source to target coordinates and carries the provenance as metadata.
    correlation : float32 tensor [D, D]
        What was matched: the evidence, or the mean of both kinds.
    streams : StreamCorrelation or None
        None where no tokens were read.
    weights : WeightCorrelation or None
        None where weights were no evidence.
    correlation_bytes : int
        What the correlation of streams took beside the models, as `correlation_bytes` counts it.
    kept : KeptState or None
        How far it had come, to be forgotten once the gauge is written.
    peaks : tuple of int
        The largest resident memory of each rank, in bytes, when all had been read.
    foreseen_bytes : int
        What was foreseen of each, see `bmatch.footprint.job_bytes`; 0 on a CUDA device.
    """

    match: GaugeMatch | OrthogonalMatch
    correlation: torch.Tensor
    streams: StreamCorrelation | None
    weights: WeightCorrelation | None
    correlation_bytes: int
    kept: KeptState | None = None
    peaks: tuple[int, ...] = ()
    foreseen_bytes: int = 0

    @property
    def gauge(self) -> SignedPermutation | OrthogonalGauge:
        """The gauge, as NumPy arrays."""
        return self.match.gauge


def align_checkpoints(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    text: Sequence[str | os.PathLike[str]] = (),
    tokens: int = 4096,
    sequence_length: int = 256,
    batch_size: int = 2,
    sites: Sites = "all",
    group: AnyGroup | Literal["auto"] = "auto",
    dtype: str = "float32",
    device: str = "cpu",
    evidence: Evidence = "activations",
    witness: bool = True,
    progress: Progress = silent,
    tell: Callable[[str], None] | None = None,
    warn: Callable[[str], object] = warnings.warn,
    cache_dir: str | os.PathLike[str] | None = None,
    save_every: float = 5.0,
    passed: Callable[[int], object] = bool,
    ranks: Ranks = ALONE,
    shard: bool = False,
) -> Alignment:
    """Estimate the gauge between two checkpoint folders: what ``bmatch align`` does.

    The streams must have one width. Types, depths and vocabularies may differ: models of different
    depths are held against each other at equal fractions of their depths; and where token ids do
    not mean the same, both read the same text, each in tokens of its own, and those tokens count
    that end at the same character. The gauge's metadata then say so.

    Parameters
    ----------
    source, target : path
        Folders in the format of transformers, with safetensors weights. The tokenizer is taken
        from the source, or from the target if the source has none. Code in them is never run.
    text : sequence of path
        UTF-8 text files to read. Default: the language reference that ships with Python.
    tokens : int
        How many tokens count.
    sequence_length, batch_size : int
        Shape of the batches.
    sites, group
        As for `estimate_gauge`.
    dtype : str
        Precision of the forward passes: float32, bfloat16 or float16.
    device : str
        Where the models run, ``cpu`` or a CUDA device: both must fit. Or ``auto``: accelerate
        spreads them over all GPUs, memory and disk.
    evidence : {"activations", "weights", "both"}
        As for `estimate_gauge`. Weights are read one tensor at a time, and for them alone no model
        is made and no tokenizer or text is needed.
    witness : bool
        As for `estimate_gauge`.
    progress : callable, optional
        How to show how far it has come (see `bmatch.jobs.progress`).
    tell : callable, optional
        Is given a line about the memory that the correlation will take, before models are loaded;
        and lines about what is held against what, where the models differ in depth or vocabulary.
    warn : callable, optional
        Is given a sentence where sums cannot be kept; the job goes on. Default: it is a warning.
    cache_dir : path, optional
        Where the sums of 16 batches and more are kept, under a key of content, so that a job that
        was ended goes on. Default: they are not.
    save_every : float
        Minutes from one time to the next.
    passed : callable, optional
        Is told how many tokens have been counted, as they are.
    shard : bool
        Whether ranks share the models out (FSDP2), which one device does not hold, and all read the
        same tokens; else they share the tokens.
    ranks : Ranks
        This is the first; the others are in `bmatch.stream_jobs.serve`. The gauge does not depend
        on how many there are, to the bit.

    Returns
    -------
    Alignment

    Raises
    ------
    FileNotFoundError, ValueError
        If a checkpoint is incomplete, damaged or holds NaN, the two do not fit together, the text
        is too short, or a CUDA device has too little memory left. Nothing is loaded before this is
        known.
    """
    require_evidence(evidence, group)
    _require_precision_and_device(dtype, device)
    if text and evidence == "weights":
        raise ValueError("evidence from weights reads no text: leave it out, or take both")
    checkpoints = {"source": open_checkpoint(source), "target": open_checkpoint(target)}
    axes = {role: checkpoint.axes for role, checkpoint in checkpoints.items()}
    require_same_width(axes["target"], axes["source"])
    chosen_group = resolve_group(
        axes["target"], axes["source"], group, lambda: map(_tested, checkpoints.values())
    )
    say = tell or (lambda _: None)
    reading = None
    if evidence != "weights":
        reading = _Reading.of(
            checkpoints, text, tokens, sequence_length, batch_size, sites, first_device(device)
        )

    digests = {
        role: checked_digest(checkpoint, progress, f"Checking {role}")
        for role, checkpoint in checkpoints.items()
    }
    streams = weights = kept = None
    peaks = []
    foreseen = 0
    if evidence != "activations":
        weights = correlate_weights(checkpoints["target"], checkpoints["source"], progress=progress)
        if weights.left_out:
            say(_what_is_left_out(weights))
    ranks.told(None if reading is None else Plan(reading.batches, sites))
    if reading is not None:
        for line in reading.told(axes):
            say(line)
        if device == "cpu":
            sizes = reading.largest, reading.correlation_bytes
            foreseen = job_bytes([*checkpoints.values()], dtype, *sizes)
            say(f"memory in all, models included: about {foreseen / 1e6:,.0f} MB")
        if cache_dir is not None:
            deciding = {"folders": digests, "pairs": reading.pairs, "dtype": dtype}
            deciding["device"] = device.partition(":")[0]
            kept = kept_state(cache_dir, save_every, deciding, reading.batches, warn)
        readers = {
            role: reader_of(checkpoints[role], dtype, device, shard, reading.correlation_bytes)
            for role in progress(list(checkpoints), "Loading models")
        }
        streams = correlate_streams(
            readers["target"],
            readers["source"],
            reading.batches,
            sites,
            largest_batch=reading.largest,
            job=Job(ranks, kept, passed, progress, together=shard),
        )
        peaks = ranks.gathered(peak_bytes())
    result: GaugeMatch | OrthogonalMatch
    if chosen_group == "orthogonal":
        assert streams is not None  # as `require_evidence` has seen to
        correlation = streams.correlation
        result = match_rotation(streams, fix_ones=fixes_ones(axes["target"], axes["source"]))
    else:
        both = checkpoints["target"], checkpoints["source"]
        ask = partial(weights_if_comparable, *both, progress) if witness else None
        result, correlation, _ = match_evidence(chosen_group, streams, weights, ask)
    result.gauge.metadata.update(
        source=checkpoints["source"].folder.resolve().name,
        target=checkpoints["target"].folder.resolve().name,
        source_sha256=digests["source"],
        target_sha256=digests["target"],
        model_type=axes["source"].model_type,
    )
    if axes["target"].model_type != axes["source"].model_type:
        result.gauge.metadata["target_model_type"] = axes["target"].model_type
    if reading is not None:
        result.gauge.metadata.update(
            text=title_of(text),
            sequence_length=str(sequence_length),
            dtype=dtype,
        )
        if reading.aligned:
            result.gauge.metadata["tokens_paired_by"] = "the character at which they end"
    return Alignment(
        replace(result, gauge=result.gauge.to(None)),  # type: ignore[arg-type]  # of its kind
        correlation,
        streams,
        weights,
        reading.correlation_bytes if reading else 0,
        kept,
        tuple(peaks),
        foreseen,
    )


class _Reading(NamedTuple):
    """What both models will read, and what correlating their streams will take."""

    batches: Sequence[torch.Tensor] | Sequence[AlignedBatch]
    pairs: tuple[SitePair, ...]
    device: str
    largest: int  # tokens of a batch
    correlation_bytes: int

    @classmethod
    def of(
        cls,
        checkpoints: Mapping[str, Checkpoint],
        text: Sequence[str | os.PathLike[str]],
        tokens: int,
        sequence_length: int,
        batch_size: int,
        sites: Sites,
        device: str,
    ) -> _Reading:
        """The text in tokens; refused if models, vocabulary or device do not suit it."""
        target = checkpoints["target"].axes
        pairs = pair_sites(target.num_layers, checkpoints["source"].axes.num_layers, sites)
        words = file_text(text) if text else default_text()
        batches = batches_for_both(checkpoints, words, tokens, sequence_length, batch_size)
        require_in_vocabulary(batches, checkpoints)
        largest = max(batch.numel() for batch in batches)
        needed = correlation_bytes(
            len(pairs), target.dim, largest, torch.device(device), len(batches) >= LEAST
        )
        require_memory(needed, torch.device(device))
        return cls(batches, pairs, device, largest, needed)

    @property
    def aligned(self) -> bool:
        """Whether each model reads tokens of its own."""
        return isinstance(self.batches[0], AlignedBatch)

    def told(self, axes: Mapping[str, ResidualAxes]) -> Iterable[str]:
        """What has to be told before it begins."""
        yield (
            f"moments of {len(self.pairs)} sites and streams of {self.largest} tokens a batch will "
            f"take {self.correlation_bytes / 1e6:,.1f} MB on {self.device} beside the models"
        )
        yield from _what_is_paired(self.pairs, axes, self.aligned)


def _tested(checkpoint: Checkpoint) -> Premise:
    """What the gains of a checkpoint say, of a structure that is proved to rotate."""
    require_rotations(checkpoint.config)
    return tested_gains(checkpoint)


def _what_is_left_out(weights: WeightCorrelation) -> str:
    few = ", ".join(weights.left_out[:3]) + (", ..." if len(weights.left_out) > 3 else "")
    return (
        f"{len(weights.left_out)} tensors whose rows come in another order in the source, or that "
        f"it has not, are no evidence: {few}"
    )


def _what_is_paired(
    pairs: Sequence[SitePair], axes: Mapping[str, ResidualAxes], aligned: bool
) -> Iterable[str]:
    """What has to be told of models that differ in depth or vocabulary."""
    depths = axes["source"].num_layers, axes["target"].num_layers
    if depths[0] != depths[1]:
        listed = ", ".join(f"{pair.source} and {pair.target}" for pair in pairs)
        yield (
            f"the source has {depths[0]} blocks and the target {depths[1]}: sites of source and "
            f"target that are held against each other: {listed}"
        )
    if aligned:
        yield (
            "the tokenizers differ: both models read the same text, and those tokens count that "
            "end at the same character"
        )


def _require_precision_and_device(dtype: str, device: str) -> None:
    """Before anything is read."""
    if dtype not in ("float32", "bfloat16", "float16"):
        raise ValueError(f"dtype must be float32, bfloat16 or float16, got {dtype!r}")
    require_device(device, spread=True)
