"""The weights of a model, carried along by a gauge of all of its spaces."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import torch

from bmatch.architecture.spaces import Axes
from bmatch.jobs.progress import Progress, silent
from bmatch.models.checkpoint import open_checkpoint
from bmatch.models.network_files import NetworkFiles
from bmatch.models.rewrite import Writer, rewrite_checked
from bmatch.network_gauge import NetworkGauge
from bmatch.transport.weights import noted


def network_state_dict(
    weights: Mapping[str, torch.Tensor], gauge: NetworkGauge, axes: Axes
) -> dict[str, torch.Tensor]:
    """Carry a state dict to the coordinates of all spaces; the function it computes stays the same.

    Parameters
    ----------
    weights : mapping of str to tensor
        As ``model.state_dict()`` gives them, on the CPU; left as they are.
    gauge : NetworkGauge
        From the coordinates of the weights to those wanted.
    axes : Axes
        The model's, as `bmatch.architecture.derive` gives them.

    Returns
    -------
    dict of str to tensor
        New tensors of the same dtypes. Names that shared one tensor (tied embeddings) share one.

    Raises
    ------
    ValueError
        If a tensor is missing, or the model has not the spaces that the gauge acts on, in their
        sizes and groups.
    """
    carry = gauge.on(axes)
    carried = {member.tensor for space in axes.spaces for member in space.members}
    missing = sorted(carried - weights.keys())
    if missing:
        raise ValueError(f"{len(missing)} tensors are missing: {', '.join(missing[:5])}")
    moved: dict[tuple[object, ...], torch.Tensor] = {}
    # Spaces name one of the names that a tensor has: it comes first, and the others find it made.
    for name in sorted(weights, key=lambda name: name not in carried):
        tensor = weights[name]
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if place not in moved:
            made = carry(name, tensor)
            moved[place] = made.clone() if made is tensor else made
    return {name: moved[t.data_ptr(), t.shape, t.stride(), t.dtype] for name, t in weights.items()}


def network_checkpoint(
    folder: str | os.PathLike[str],
    gauge: NetworkGauge,
    out: str | os.PathLike[str],
    progress: Progress = silent,
    tell: Callable[[str], None] | None = None,
    writer: Writer = rewrite_checked,
) -> str:
    """Carry a checkpoint folder to the coordinates of all spaces: what ``bmatch apply`` does.

    Parameters
    ----------
    folder : path
        In the format of transformers, with safetensors weights.
    gauge : NetworkGauge
        From the coordinates of the checkpoint to those wanted.
    out : path
        A folder that does not exist yet; it appears when it is complete.
    progress, tell, writer
        As for `checkpoint`.

    Returns
    -------
    str
        The digest of the weights that were read, as for `checkpoint`.

    Raises
    ------
    FileExistsError
        If `out` exists.
    FileNotFoundError, ValueError
        If the checkpoint is incomplete, damaged or unknown, holds NaN, or has not the spaces that
        the gauge acts on, in their sizes and groups.
    OSError
        If `out` cannot be written. Nothing is left behind in any of these cases.
    """
    model = open_checkpoint(folder)
    files = NetworkFiles(model)
    try:
        carry = gauge.on(files.axes)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    header = noted("permutation", *(element.group for element in gauge.values()))
    with files.transforming(carry) as transform:
        like = gauge.metadata.get("source_sha256")
        return writer(model, out, transform, progress, "Applying gauge", tell, header, like=like)
