"""The weights of a model, carried to the coordinates that a gauge leads to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from bmatch.architecture import residual_axes
from bmatch.gauge import SignedPermutation
from bmatch.jobs.progress import Progress, silent
from bmatch.models.checkpoint import Digest, open_checkpoint, require_finite, rewrite


def state_dict(
    weights: Mapping[str, torch.Tensor], gauge: SignedPermutation, model_or_config: Any
) -> dict[str, torch.Tensor]:
    """Carry a state dict to other coordinates; the function it computes stays the same.

    Parameters
    ----------
    weights : mapping of str to tensor
        As ``model.state_dict()`` gives them; left as they are.
    gauge : SignedPermutation
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
        If the architecture or a tensor is unknown, a tensor is missing, or widths differ.
    """
    axes = residual_axes(model_or_config)
    axes.require_names(weights)
    carried: dict[tuple[Any, ...], torch.Tensor] = {}
    result = {}
    for name, tensor in weights.items():
        storage = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if storage not in carried or not tensor.numel():
            carried[storage] = axes.transform(name, tensor, gauge)
        result[name] = carried[storage]
    return result


def checkpoint(
    folder: str | os.PathLike[str],
    gauge: SignedPermutation,
    out: str | os.PathLike[str],
    progress: Progress = silent,
) -> str:
    """Carry a checkpoint folder to other coordinates: what ``bmatch apply`` does.

    Parameters
    ----------
    folder : path
        In the format of transformers, with safetensors weights.
    gauge : SignedPermutation
        From the coordinates of the checkpoint to those wanted.
    out : path
        A folder that does not exist yet; it appears when it is complete.
    progress : callable, optional
        How to show how far it has come (see `bmatch.jobs.progress`).

    Returns
    -------
    str
        SHA-256 of the weights that were read, as `align.align_checkpoints` notes it in gauges.

    Raises
    ------
    FileExistsError
        If `out` exists.
    FileNotFoundError, ValueError
        If the checkpoint is incomplete, damaged, unknown or of another width, or holds NaN.
    OSError
        If `out` cannot be written. Nothing is left behind in any of these cases.
    """
    model = open_checkpoint(folder)
    axes = residual_axes(model.config)
    if axes.dim != gauge.dim:
        raise ValueError(
            f"the gauge acts on {gauge.dim} coordinates, and the residual stream of {folder} has "
            f"{axes.dim}"
        )
    axes.require_names(model.names)
    digest = Digest()

    def carry(name: str, tensor: torch.Tensor) -> torch.Tensor:
        require_finite(name, tensor, model.folder)
        digest.add(name, tensor)
        carried: torch.Tensor = axes.transform(name, tensor, gauge)
        return carried

    rewrite(model, out, carry, progress, "Applying gauge")
    return digest.hexdigest()
