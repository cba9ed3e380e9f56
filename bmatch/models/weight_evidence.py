"""What two models' weights say about the gauge between their residual streams: no token is read.

Everything that reads or writes the stream has an axis for its coordinates; the other axes, flattened,
are rows, as tokens are of activations. Where row k of a tensor is the same row in both models, the
tensor's rows correlate coordinates with coordinates.

Whether they are the same is asked of the weights themselves: the inner product of two rows does not
change under a gauge of the stream, so those of neighbouring rows are alike in two tensors whose rows
come in one order, and unrelated where neurons, heads or tokens were numbered anew. Such a tensor is
left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch

from bmatch.architecture.axes import ResidualAxes
from bmatch.correlation.cross_moments import CrossMoments
from bmatch.jobs.progress import Progress, silent
from bmatch.models.activations import Reader, pair_sites
from bmatch.models.checkpoint import Checkpoint, require_finite

Rows: TypeAlias = Literal["auto", "all"]
"""Which tensors count: those whose rows come in one order, as far as their rows tell, or all."""

PRODUCTS = 8192
"""Inner products of neighbouring rows that are enough to tell whether rows come in one order."""
SAME_ORDER = 5.0
"""Standard errors above 0 from which on inner products of rows are taken for related."""


@dataclass(frozen=True, eq=False)
class WeightCorrelation:
    """Correlation of the coordinates of two residual streams over the rows of weights.

    Attributes
    ----------
    correlation : float32 tensor [D, D]
        ``C[i, j] = corr(target_i, source_j)``, the mean over the tensors, each counted by its rows.
    rows : int
        Rows counted, of all tensors.
    tensors : dict of str to int
        Rows of each tensor that counted, by its name in the target.
    left_out : tuple of str
        Tensors of the target whose rows are others in the source, or not there.
    """

    correlation: torch.Tensor
    rows: int
    tensors: dict[str, int]
    left_out: tuple[str, ...]


class Weights(NamedTuple):
    """Tensors of a model by name, each made when it is asked for."""

    axes: ResidualAxes
    names: tuple[str, ...]
    read: Callable[[str], torch.Tensor]

    @classmethod
    def of(cls, model: Any) -> Weights:
        """The weights of a `Checkpoint`, a `Reader` or a model that transformers made."""
        if isinstance(model, Checkpoint):
            return cls(model.axes, model.names, _finite(model.tensor, model.folder))
        reader = Reader.of(model)
        tensors: Mapping[str, torch.Tensor] = reader.model.state_dict(keep_vars=True)
        reader.axes.require_names(tensors)
        where = f"the {reader.axes.model_type} model"
        once = {id(tensor): name for name, tensor in reversed(tensors.items())}  # tied ones
        return cls(reader.axes, tuple(once.values()), _finite(tensors.__getitem__, where))


def correlate_weights(
    target: Any, source: Any, rows: Rows = "auto", progress: Progress = silent
) -> WeightCorrelation:
    """Correlate the coordinates of two residual streams over all that reads or writes them.

    Parameters
    ----------
    target, source
        `Checkpoint`, whose tensors are read one at a time, and no model is made; or models, or
        `Reader` of them.
    rows : {"auto", "all"}
        ``"auto"`` takes the tensors whose rows come in one order in both models, as inner products
        of neighbouring rows tell; ``"all"`` takes all for such.
    progress : callable, optional
        How to show how far it has come (see `bmatch.jobs.progress`).

    Returns
    -------
    WeightCorrelation

    Raises
    ------
    ValueError
        If the widths differ, no rows of the two are the same, or a weight is not finite.
    """
    if rows not in get_args(Rows):
        raise ValueError(f"rows must be one of {', '.join(get_args(Rows))}; got {rows!r}")
    ours, theirs = Weights.of(target), Weights.of(source)
    width = ours.axes.dim
    total = torch.zeros(width, width, dtype=torch.float64)
    counted: dict[str, int] = {}
    left_out = []
    pairs = list(_pairs(ours, theirs))
    for name, twin in progress(pairs, "Correlating weights"):
        y, x = _rows(ours, name), None if twin is None else _rows(theirs, twin)
        if y is None or len(y) < 2:
            continue
        if x is None or not _comparable(y, x, rows):
            left_out.append(name)
            continue
        count = min(len(y), len(x))
        moments = CrossMoments(width, width)
        moments.update(y[:count], x[:count])
        total += count * moments.correlation()
        counted[name] = count
    if not counted:
        raise ValueError(
            "no rows of weights are the same in the two models, so weights tell nothing of the "
            "gauge between them: take evidence='activations'"
        )
    total /= sum(counted.values())
    return WeightCorrelation(total.float(), sum(counted.values()), counted, tuple(left_out))


def _finite(
    read: Callable[[str], torch.Tensor], where: Path | str
) -> Callable[[str], torch.Tensor]:
    def checked(name: str) -> torch.Tensor:
        tensor = read(name)
        require_finite(name, tensor, where)
        return tensor

    return checked


def _pairs(target: Weights, source: Weights) -> Iterator[tuple[str, str | None]]:
    """Names of the target's tensors that carry the stream, each with its twin in the source.

    Blocks of models of different depths are paired at equal fractions of their depths.
    """
    layers = {
        pair.target: pair.source
        for pair in pair_sites(target.axes.num_layers - 1, source.axes.num_layers - 1, "all")
    }
    known = {_bare(name): name for name in source.names}
    for name in sorted(target.names):  # sums do not depend on the order of shards
        rule = target.axes.rule(name)
        if rule is None or len(rule.axes) != 1:
            continue
        bare = _bare(name)
        block = _BLOCK.search(bare)
        if block is None:
            yield name, known.get(bare)
        elif int(block[0]) in layers:
            paired = layers[int(block[0])]
            yield name, known.get(f"{bare[: block.start()]}{paired}{bare[block.end() :]}")


_BLOCK = re.compile(r"(?<=\.)\d+(?=\.)")


def _bare(name: str) -> str:
    """The name without that of the base model, which some checkpoints leave out."""
    return re.sub(r"^(model|transformer)\.", "", name)


def _rows(weights: Weights, name: str) -> torch.Tensor | None:
    """A tensor with its coordinates last, float32 [rows, D]; None if it carries no signs."""
    rule = weights.axes.rule(name)
    if rule is None or len(rule.axes) != 1 or not rule.axes[0][1]:
        return None
    tensor = weights.read(name).detach().to("cpu", torch.float32).movedim(rule.axes[0][0], -1)
    return tensor.reshape(-1, tensor.shape[-1])


def _comparable(y: torch.Tensor, x: torch.Tensor, rows: Rows) -> bool:
    if rows == "all":
        return len(y) == len(x)
    return in_one_order(y, x) >= SAME_ORDER


def in_one_order(y: torch.Tensor, x: torch.Tensor) -> float:
    """How many standard errors above 0 the inner products of neighbouring rows are related.

    Parameters
    ----------
    y, x : float32 [R, D] and [R', D]
        Rows in any two gauges; of those that one has more than the other, the first count.
    """
    count = min(len(y), len(x))
    lags = range(1, min(max(1, PRODUCTS // count), 8, count - 1) + 1)
    a, b = (torch.nn.functional.normalize(rows[:count], dim=1) for rows in (y, x))
    p, q = (torch.cat([(rows[k:] * rows[:-k]).sum(1) for k in lags]) for rows in (a, b))
    p, q = p - p.mean(), q - q.mean()
    scale = float(p.norm() * q.norm())
    return float(p @ q) / scale * len(p) ** 0.5 if scale else 0.0
