"""Several checkpoints in one: their weights averaged, or their changes added, in one's coordinates.

Task arithmetic is G. Ilharco et al., "Editing Models with Task Arithmetic", ICLR 2023.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch

from bmatch.groups import Gauge
from bmatch.jobs.progress import Progress, silent
from bmatch.models.checkpoint import Checkpoint, open_checkpoint
from bmatch.models.digest import require_finite
from bmatch.models.rewrite import Writer, rewrite_checked

COPIES = 12
"""How often a tensor of 16 bits is in memory while its kin are added to it, in 32 bits, to it."""

Method: TypeAlias = Literal["average", "task_arithmetic"]


@dataclass(frozen=True)
class Merged:
    """One of the checkpoints that are merged.

    Attributes
    ----------
    folder : path
        In the format of transformers, with safetensors weights.
    gauge : SignedPermutation or OrthogonalGauge, optional
        From its coordinates to those of the base. Default: it has them.
    weight : float
        Its share of the average, or how much of its change is added.

    Raises
    ------
    ValueError
        If the weight is not finite.
    """

    folder: str | os.PathLike[str]
    gauge: Gauge | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise ValueError(f"weights must be finite, got {self.weight} for {self.folder}")


def merge(
    base: str | os.PathLike[str],
    models: Sequence[Merged],
    out: str | os.PathLike[str],
    method: Method = "average",
    *,
    base_weight: float = 1.0,
    progress: Progress = silent,
    tell: Callable[[str], None] | None = None,
    writer: Writer = rewrite_checked,
) -> None:
    """Merge checkpoints in the coordinates of one of them.

    Parameters
    ----------
    base : path
        The checkpoint whose coordinates, config, tokenizer, shards and dtypes the result has.
    models : sequence of Merged
    out : path
        A folder that does not exist yet; it appears when it is complete.
    method : {"average", "task_arithmetic"}
        ``sum_i w_i W_i / sum_i w_i`` with the base among them, or ``W_0 + sum_i w_i (W_i - W_0)``.
    base_weight : float
        The base's share of the average.
    progress, tell, writer
        As for `checkpoint`.

    Raises
    ------
    FileExistsError
        If `out` exists.
    FileNotFoundError, ValueError
        If a checkpoint is incomplete, damaged or unknown, holds NaN, or differs from the base in
        names or shapes of tensors; a gauge does not fit; shares add up to nothing; or the method is
        unknown.
    OSError
        If `out` cannot be written. Nothing is left behind in any of these cases.

    Notes
    -----
    Sums are taken in float32, of float64 weights in float64, one tensor of each model at a time.
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}; got {method!r}")
    if not models:
        raise ValueError("one checkpoint is nothing to merge: name another")
    own = open_checkpoint(base)
    others = [open_checkpoint(model.folder) for model in models]
    for other, model in zip(others, models, strict=True):
        _require_alike(own, other)
        if model.gauge is not None:
            try:
                own.axes.require_gauge(model.gauge)
            except ValueError as error:
                raise ValueError(f"{other.folder}: {error}") from None
    shares = [model.weight for model in models]
    if method == "average":
        total = base_weight + sum(shares)
        if not total:
            raise ValueError("the shares of the average add up to 0")
        if not math.isfinite(total):
            raise ValueError("the shares of the average add up to more than a float holds")
        shares = [share / total for share in shares]

    def merged(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return tensor
        wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
        mine = tensor.to(wide)
        # Both methods add differences: an average is the base and shares of what sets others off.
        result = mine.clone()
        for other, model, share in zip(others, models, shares, strict=True):
            theirs = other.tensor(name)
            require_finite(name, theirs, other.folder)
            if model.gauge is not None:
                theirs = own.axes.transform(name, theirs, model.gauge)
            result += share * (theirs.to(wide) - mine)
        narrow = result.to(tensor.dtype)
        try:
            require_finite(name, narrow, os.fspath(out))
        except ValueError:
            raise ValueError(
                f"merged, {name} is more than {narrow.dtype} holds: take smaller weights"
            ) from None
        return narrow

    writer(own, out, merged, progress, "Merging", tell)


def _require_alike(own: Checkpoint, other: Checkpoint) -> None:
    """Refuse two checkpoints whose tensors are not the same by names and shapes."""
    mine, theirs = own.shapes(), other.shapes()
    odd = sorted(mine.keys() ^ theirs.keys())
    if odd:
        raise ValueError(f"{odd[0]} is in one of {own.folder} and {other.folder} alone")
    for name, shape in mine.items():
        if theirs[name] != shape:
            raise ValueError(
                f"{name} is {list(shape)} in {own.folder} and {list(theirs[name])} in "
                f"{other.folder}: only models of one shape can be merged"
            )
