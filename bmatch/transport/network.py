"""The weights of a model, carried along by a gauge of all of its spaces."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

from bmatch.jobs.progress import Progress, silent
from bmatch.models.checkpoint import Digest, open_checkpoint, require_finite
from bmatch.models.network_files import NetworkFiles
from bmatch.models.rewrite import rewrite
from bmatch.network_gauge import NetworkGauge


def network_checkpoint(
    folder: str | os.PathLike[str],
    gauge: NetworkGauge,
    out: str | os.PathLike[str],
    progress: Progress = silent,
    tell: Callable[[str], None] | None = None,
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
    progress, tell
        As for `checkpoint`.

    Returns
    -------
    str
        SHA-256 of the weights that were read, as ``bmatch align`` notes it in gauges.

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
    digest = Digest()
    with files.transforming(carry) as transform:

        def checked(name: str, tensor: torch.Tensor) -> torch.Tensor:
            require_finite(name, tensor, model.folder)
            digest.add(name, tensor)
            return transform(name, tensor)

        rewrite(model, out, checked, progress, "Applying gauge", tell)
    return digest.hexdigest()
