"""Correlating the streams of two checkpoints as a long job: its state, and what other ranks do."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from bmatch._version import __version__
from bmatch.correlation.stretches import LEAST
from bmatch.jobs.phases import peak_bytes
from bmatch.jobs.ranks import Ranks
from bmatch.jobs.resume import KeptParts, KeptState, content_key
from bmatch.models.activations import Reader, Sites, split_batch
from bmatch.models.checkpoint import Checkpoint, open_checkpoint
from bmatch.models.loading import load_model
from bmatch.models.placed import share_out
from bmatch.models.stored_activations import are_activations, open_activations
from bmatch.models.text import AlignedBatch
from bmatch.stream_reading import Batch
from bmatch.streams import serve_streams

KIND = "streams"
"""What files that keep the sums of streams say they are."""


class Plan(NamedTuple):
    """What all ranks read."""

    batches: Sequence[Batch]
    sites: Sites


def serve(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    dtype: str,
    device: str,
    ranks: Ranks,
    shard: bool = False,
) -> None:
    """What ranks but the first do while that one aligns two checkpoints, or stored activations.

    Raises
    ------
    ConnectionError
        If a rank was lost.
    FileNotFoundError, ValueError, MemoryError
        If a checkpoint or activations cannot be read here.
    """
    plan: Plan | None = ranks.told()
    if plan is None:
        return
    if len(plan.batches) >= LEAST or shard:
        models: list[Any] = []
        for path in (source, target):
            if are_activations(path):
                models.append(open_activations(path))
                continue
            models.append(reader_of(open_checkpoint(path), dtype, device, shard))
        serve_streams(
            *(models[1], models[0], plan.batches, plan.sites),
            ranks=ranks,
            together=shard,
            device=device,
        )
    ranks.gathered(peak_bytes())


def reader_of(
    checkpoint: Checkpoint, dtype: str, device: str, shard: bool, spare: int = 0
) -> Reader:
    """The model of a checkpoint; where ranks share it out, this rank's shard of it.

    The arguments are those of `load_model`.
    """
    model = load_model(checkpoint, dtype, "cpu" if shard else device, spare)
    reader = Reader(model, checkpoint.axes)
    if shard:
        share_out(model, reader.blocks, device)
    return reader


def kept_state(
    folder: str | os.PathLike[str],
    minutes: float,
    deciding: Mapping[str, object],
    batches: Sequence[Batch],
    tell: Callable[[str], object],
) -> KeptState | None:
    """Where the sums of streams are kept; None where there are too few batches for any.

    `deciding` is what beside the tokens and this version decides about them.
    """
    if len(batches) < LEAST:
        return None
    key = content_key({**deciding, "tokens": batches_sha256(batches), "version": __version__})
    return KeptState(KeptParts(folder, KIND, tell), key, minutes)


def batches_sha256(batches: Sequence[Batch]) -> str:
    """Of token ids, of which of them are attended, and of where two models' tokens end together."""
    taken = hashlib.sha256()
    for batch in batches:
        if isinstance(batch, range):  # of activations, which have a hash of their own
            taken.update(repr(batch).encode())
            continue
        if isinstance(batch, AlignedBatch):
            tensors = [batch.target, batch.source, batch.target_at, batch.source_at]
        else:
            tokens, mask = split_batch(batch)
            tensors = [tokens, torch.ones_like(tokens) if mask is None else mask]
        for tensor in tensors:
            taken.update(repr(tuple(tensor.shape)).encode())
            taken.update(tensor.cpu().long().contiguous().numpy().data)
    return taken.hexdigest()
