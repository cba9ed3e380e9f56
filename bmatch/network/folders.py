"""Two checkpoint folders in, the gauge of all of their spaces out: ``bmatch align --spaces``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from bmatch._version import __version__
from bmatch.jobs.progress import Progress, silent
from bmatch.models.checkpoint import checked_digest, open_checkpoint
from bmatch.models.network_files import NetworkFiles
from bmatch.network.search import NetworkMatch, match_networks
from bmatch.network.selection import selected


def align_networks(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    spaces: Iterable[str] = ("all",),
    progress: Progress = silent,
    tell: Callable[[str], None] | None = None,
) -> NetworkMatch:
    """Estimate the gauge between all spaces of two checkpoint folders, from their weights alone.

    Tensors are read from the shards a part at a time, a layer's MLP or attention of both; no model
    is made and no token is read.

    Parameters
    ----------
    source, target : path
        Folders in the format of transformers, with safetensors weights, of one architecture.
    spaces : iterable of str
        ``all``, or some of ``residual``, ``neurons``, ``heads`` and ``experts``; the others are
        taken to be aligned already.
    progress : callable, optional
        How to show how far it has come (see `bmatch.jobs.progress`).
    tell : callable, optional
        Is given a line about spaces of the architecture that are not aligned, if there are any.

    Returns
    -------
    NetworkMatch
        The gauge's metadata tell both folders, their weights' digests and what was found.

    Raises
    ------
    FileNotFoundError, ValueError
        If a checkpoint is incomplete, damaged or holds NaN, no spaces can be derived for it, or the
        two have other spaces or shapes.
    """
    kinds = tuple(spaces)
    checkpoints = {"source": open_checkpoint(source), "target": open_checkpoint(target)}
    files = {role: NetworkFiles(checkpoint) for role, checkpoint in checkpoints.items()}
    if files["source"].axes.spaces != files["target"].axes.spaces:
        raise ValueError(
            f"{source} and {target} do not have the same spaces: whole networks align where the "
            "architecture is one and the same"
        )
    axes = selected(files["target"].axes, kinds)
    if tell is not None:
        for reason in (*axes.refuted, *axes.unmapped):
            tell(f"not aligned: {reason}")
    digests = {
        role: checked_digest(checkpoint, progress, f"Checking {role}")
        for role, checkpoint in checkpoints.items()
    }
    with files["target"].tensors() as target_of, files["source"].tensors() as source_of:
        found = match_networks(target_of, source_of, axes, progress)
    found.gauge.metadata.update(
        source=checkpoints["source"].folder.resolve().name,
        target=checkpoints["target"].folder.resolve().name,
        source_sha256=digests["source"],
        target_sha256=digests["target"],
        model_type=checkpoints["source"].axes.model_type,
        evidence="weights",
        aligned=",".join(kinds),
        objective=f"{found.objective[-1]:.6f}",
        bmatch_version=__version__,
    )
    return found
