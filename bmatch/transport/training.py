"""Folders to resume a training run from: weights and the optimizer's state, carried together."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import copyfile
from typing import Any

import torch

from bmatch.architecture import residual_axes
from bmatch.architecture.megatron import MEGATRON
from bmatch.architecture.torchtitan import TORCHTITAN
from bmatch.files.containers import leaves, open_container, unpickled
from bmatch.files.opening import indexed
from bmatch.groups import Gauge
from bmatch.jobs.progress import Progress, silent
from bmatch.models.checkpoint import Checkpoint, open_checkpoint
from bmatch.models.rewrite import Write, Writer, rewrite_checked
from bmatch.transport.formats import matching
from bmatch.transport.moved import require_moved
from bmatch.transport.optimizer import require_exact, state_of
from bmatch.transport.resuming import (
    FULL,
    STATE,
    UNIVERSAL,
    config_in,
    is_full,
    is_kept,
    is_sharded,
    require_whole,
    weight_name,
)
from bmatch.transport.sae_formats import FORMATS
from bmatch.transport.weights import lazily, noted


def trainer_checkpoint(
    folder: str | os.PathLike[str],
    gauge: Gauge,
    out: str | os.PathLike[str],
    progress: Progress = silent,
    tell: Callable[[str], None] | None = None,
    writer: Writer = rewrite_checked,
) -> str:
    """Carry a folder to resume training from: what ``bmatch apply --with-optimizer`` does.

    The weights are carried as `checkpoint` does, the optimizer's state with them; schedulers,
    random states and the trainer's log stay as they are. Before the folder appears, moments are
    compared with the weights beside them.

    Parameters
    ----------
    folder : path
        ``checkpoint-N`` of transformers' Trainer, or a folder of accelerate's ``save_state``, or
        one of ``torch.distributed.checkpoint``, or with FSDP's full state, or DeepSpeed's universal
        form: with the model's ``config.json``.
    gauge : SignedPermutation
        From the coordinates of the weights to those wanted.
    out, progress, tell, writer
        As for `checkpoint`.

    Returns
    -------
    str
        The digest of the weights that were read, as for `checkpoint`.

    Raises
    ------
    FileExistsError, FileNotFoundError, OSError
        As `checkpoint`; FileNotFoundError, too, if there is no state of an optimizer.
    ValueError
        As `checkpoint` and `optimizer_state`; if a state could run code when it is loaded, or is
        kept in slices; or if moments did not move as their weights did. Nothing is left behind in
        any of these cases.
    """
    folder = Path(folder)
    if folder.is_dir():
        require_whole(folder)
        if is_sharded(folder):
            if writer is not rewrite_checked:
                raise ValueError(
                    f"{folder} holds an optimizer's state in shards, of which no dry run tells"
                )
            from bmatch.transport.sharded import sharded_checkpoint  # imports torch.distributed

            return sharded_checkpoint(folder, gauge, Path(out), progress, tell)
    model = open_checkpoint(folder)
    try:
        require_exact(model.axes, gauge)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    files = sorted(folder.iterdir())
    states = {p.name: _writer(model, p, gauge) for p in files if STATE.fullmatch(p.name)}
    if not states:
        raise FileNotFoundError(
            f"{folder} has no optimizer.pt and no optimizer.bin: without the state of an "
            "optimizer, weights are carried alone"
        )
    kept: dict[str, Write] = {p.name: partial(copyfile, p) for p in files if is_kept(p)}
    kept |= {p.name: _again(model, p, gauge) for p in files if p.name == FULL}

    def carry(name: str, tensor: torch.Tensor) -> Any:
        return model.axes.transform(name, lazily(tensor, gauge), gauge)

    header = noted(gauge.group)
    beside = {**kept, **states}  # states come last: they are compared with the weights
    like = gauge.metadata.get("source_sha256")
    return writer(model, out, carry, progress, "Applying gauge", tell, header, beside, like)


@dataclass(frozen=True)
class TrainingRun:
    """A folder to resume training from, whose files name what they hold.

    Attributes
    ----------
    path : Path
    kind : str
    format : str
        Whose files they are.
    config : mapping
        Content of the model's ``config.json``.
    where : mapping
        What else there is to tell of it: the architecture, and how wide and deep it is.
    """

    path: Path
    kind: str
    format: str
    config: Mapping[str, Any]
    where: Mapping[str, Any]


def find_run(path: Path, model: Mapping[str, Any] | None = None) -> TrainingRun | None:
    """A run in a folder of ``torch.distributed.checkpoint``, of FSDP or of DeepSpeed.

    None if it is none of these, or such a checkpoint is a sparse dictionary's.

    Parameters
    ----------
    path : Path
    model : mapping, optional
        Content of the model's ``config.json``. Default: of that in the folder.

    Raises
    ------
    ValueError
        If there is no config, or it tells no architecture.
    """
    if not (path.is_dir() and is_sharded(path)):
        return None
    known = "FSDP, full state" if is_full(path) else "DeepSpeed, universal form"
    if indexed(path) and not (path / UNIVERSAL).is_dir():
        from bmatch.files.distributed import DistributedFiles  # imports torch.distributed

        shapes = [DistributedFiles(place).shapes for place in indexed(path)]
        if any(any(matching(FORMATS, found)) for found in shapes):
            return None
        known = "torch.distributed.checkpoint"
        for spelling in (TORCHTITAN, MEGATRON):
            if any(spelling.mark in map(weight_name, found) for found in shapes):
                known = f"{spelling.project}, {known}"
    config = config_in(path) if model is None else model
    try:
        axes = residual_axes(config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    where = {"architecture": axes.model_type, "coordinates": axes.dim, "blocks": axes.num_layers}
    return TrainingRun(path, "training run", known, config, where)


def carry_run(
    found: TrainingRun, gauge: Gauge, out: str | os.PathLike[str], progress: Progress = silent
) -> None:
    """Carry what `find_run` has found, as `trainer_checkpoint` does."""
    from bmatch.transport.sharded import sharded_checkpoint

    require_whole(found.path)
    sharded_checkpoint(found.path, gauge, Path(out), progress, config=found.config)


def _again(model: Checkpoint, path: Path, gauge: Gauge) -> Write:
    """Writes the same weights in a file of `torch.save`, from which FSDP goes on."""
    weights = open_container(path)
    try:
        model.axes.require_names(weights.shapes)
        model.axes.require_shapes(weights.shapes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None

    def carry(name: str, tensor: torch.Tensor) -> Any:
        return model.axes.transform(name, lazily(tensor, gauge), gauge)

    return lambda out: weights.copy(out, carry, {})


def _writer(model: Checkpoint, path: Path, gauge: Gauge) -> Write:
    state = open_container(path)
    found = state_of(state, model.axes, model.config)
    moments = {name: kept for name, kept in found.moments.items() if name in model.names}

    def transform(name: str, tensor: torch.Tensor) -> torch.Tensor:
        moved: torch.Tensor = found.moves[name](tensor, gauge)
        return moved

    def write(out: Path) -> None:
        state.copy(out, transform, {})
        weights = model.tensor, open_checkpoint(out.parent).tensor
        before, after = (dict(leaves(unpickled(file))).__getitem__ for file in (path, out))
        require_moved(path, weights, (before, after), moments, gauge)

    return write
