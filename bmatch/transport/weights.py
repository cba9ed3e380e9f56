"""The weights of a model, carried to the coordinates that a gauge leads to."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from bmatch.architecture import residual_axes
from bmatch.architecture.rotating import require_rotations
from bmatch.architecture.wrappers import FULL
from bmatch.gauge import SignedPermutation
from bmatch.groups import ORDER, AnyGroup, Gauge
from bmatch.jobs.progress import Progress, silent
from bmatch.models.checkpoint import open_checkpoint
from bmatch.models.rewrite import Writer, rewrite_checked
from bmatch.taking import Taken, can_be_taken
from bmatch.transport.lens import require_none_of_lens

CARRIED_BY = "bmatch_group"
"""In the header of every shard that was carried: the group of the gauge that did it."""


def state_dict(
    weights: Mapping[str, torch.Tensor], gauge: Gauge, model_or_config: Any
) -> dict[str, torch.Tensor]:
    """Carry a state dict to other coordinates; the function it computes stays the same.

    Parameters
    ----------
    weights : mapping of str to tensor
        As ``model.state_dict()`` gives them; left as they are. The tensors may be made when they
        are asked for (accelerate's ``OffloadedWeightsLoader``, a view that casts), one at a time.
    gauge : SignedPermutation or OrthogonalGauge
        From the coordinates of the weights to those wanted, on the device of the weights.
    model_or_config
        The transformers model, its config, or the content of ``config.json``.

    Returns
    -------
    dict of str to tensor
        New tensors of the same dtypes. Names that shared one tensor (tied embeddings) share one.

    Raises
    ------
    ValueError
        If the architecture or a tensor is unknown, a tensor is missing, on the meta device or a
        shard, widths differ, the gauge is of a larger group than the architecture's, or the weights
        are those of TransformerLens.
    """
    require_none_of_lens(weights)
    axes = residual_axes(model_or_config)
    axes.require_gauge(gauge)
    if gauge.group == "orthogonal":
        require_rotations(model_or_config)
    axes.require_names(weights)
    # A mapping may make its tensors when asked, and drop them at once. An address would then soon
    # be that of another tensor; a weak reference stays that of one storage, and keeps no weights.
    carried: dict[tuple[Any, ...], torch.Tensor] = {}
    result = {}
    for name, tensor in weights.items():
        if tensor.is_meta:
            raise ValueError(
                f"{name} is on the meta device, where tensors have no entries: load the model "
                "without offloading it, or give the weights that were offloaded"
            )
        if hasattr(tensor, "full_tensor"):
            raise ValueError(f"{name} is a shard of a tensor: {FULL}")
        moved = axes.transform(name, tensor, gauge)
        if moved is tensor:
            moved = tensor.clone()
        storage = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
        place = (storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        twin = carried.setdefault(place, moved)
        # One buffer that is filled anew for each tensor is one storage, too.
        result[name] = twin if twin is moved or torch.equal(twin, moved) else moved
    return result


def checkpoint(
    folder: str | os.PathLike[str],
    gauge: Gauge,
    out: str | os.PathLike[str],
    progress: Progress = silent,
    tell: Callable[[str], None] | None = None,
    writer: Writer = rewrite_checked,
) -> str:
    """Carry a checkpoint folder to other coordinates: what ``bmatch apply`` does.

    Parameters
    ----------
    folder : path
        In the format of transformers, with safetensors weights.
    gauge : SignedPermutation or OrthogonalGauge
        From the coordinates of the checkpoint to those wanted.
    out : path
        A folder that does not exist yet; it appears when it is complete.
    progress : callable, optional
        How to show how far it has come (see `bmatch.jobs.progress`).
    tell : callable, optional
        Is given a line about files that are not copied along, if there are any.
    writer : callable, optional
        Takes the place of the one that writes: `bmatch.models.plan.Planning` for a dry run.

    Returns
    -------
    str
        The digest of the weights that were read, as `align.align_checkpoints` notes it in gauges;
        where the gauge notes one, of the same kind.

    Raises
    ------
    FileExistsError
        If `out` exists.
    FileNotFoundError, ValueError
        If the checkpoint is incomplete, damaged, unknown, of another width or of a smaller group
        than the gauge's, or holds NaN or Git-LFS pointers.
    OSError
        If `out` cannot be written. Nothing is left behind in any of these cases.
    """
    model = open_checkpoint(folder)
    axes = model.axes
    try:
        axes.require_gauge(gauge)
        if gauge.group == "orthogonal":
            require_rotations(model.config)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None

    def carry(name: str, tensor: torch.Tensor) -> Any:
        return axes.transform(name, lazily(tensor, gauge), gauge)

    like = gauge.metadata.get("source_sha256")
    header = noted(gauge.group)
    return writer(model, out, carry, progress, "Applying gauge", tell, header, like=like)


def copies_under(gauge: Gauge) -> int:
    """How often a tensor is in memory while a gauge is applied to it, itself included."""
    return 6 if gauge.group == "orthogonal" else 1  # its wide form, the product's, and the result


def noted(*groups: AnyGroup) -> Callable[[dict[str, str]], dict[str, str]]:
    """Writes into a shard's header the largest of the groups that it was ever carried by."""

    def header(written: dict[str, str]) -> dict[str, str]:
        found = [group for group in ORDER if group in groups or group == written.get(CARRIED_BY)]
        return {**written, CARRIED_BY: found[-1]}

    return header


def lazily(tensor: Any, gauge: Gauge) -> Any:
    """What `gauge` is to be applied to, for a tensor that is made no sooner than it is written.

    The tensor itself if the gauge does more than to move bits, or if it is none to take from.
    """
    lazy = (
        isinstance(gauge, SignedPermutation)
        and isinstance(tensor, torch.Tensor)
        and can_be_taken(tensor)
    )
    return Taken(tensor) if lazy else tensor
