"""What two models' weights say about the gauge between their streams: no token is read.

Everything that reads or writes the stream has an axis for its coordinates; the other axes,
flattened, are rows, as tokens are of activations. Rows of all tensors are correlated together, each
tensor at root mean square 1, so that none drowns the rest.

Coordinates are whitened first, in each model by the moments of its own rows, which commutes with
gauges: a few directions that all coordinates share, such as those of tokens that were hardly
trained, would otherwise pass for likeness. After 1,500 steps of fine-tuning of a tiny model apart
from its sibling, true partners stand 2.6 standard deviations above the rest at least without, and
7.8 with it.

Row k of a tensor must be the same row in both models. The weights tell: inner products of rows do
not change under a gauge of the stream, so those of neighbouring rows are alike in two tensors whose
rows come in one order, and unrelated where neurons, heads or tokens were numbered anew. How alike
they are, squared, is a tensor's weight.

Where it could be chance, the tensor's Gram matrix takes its place, which has coordinates on both
axes, whatever the order of the rows: those of one axis are brought in the target's order by what
the other tensors say, and then its rows have to be alike. Its diagonal is left out, which would
speak for any order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch

from bmatch.architecture.axes import ResidualAxes
from bmatch.assignment.solver import solve
from bmatch.correlation.site_moments import SiteMoments
from bmatch.gauge import SignedPermutation
from bmatch.jobs.progress import Progress, silent
from bmatch.models.activations import Reader, pair_sites, require_same_width
from bmatch.models.checkpoint import Checkpoint
from bmatch.models.digest import require_finite
from bmatch.models.placed import PlacedWeights

Rows: TypeAlias = Literal["auto", "all"]
"""Which tensors count: those whose rows come in one order, as far as their rows tell, or all."""

ROWS_AT_ONCE = 8192
FEWEST_ROWS = 3
"""A bias is one row, which correlates all coordinates with all."""
RIDGE = 0.1
"""What is added to moments before they are whitened, of their mean: below it lies noise."""
PRODUCTS = 8192
"""Inner products of neighbouring rows that are enough to tell whether rows come in one order."""
SAME_ORDER = 3.0
"""Standard errors above 0 from which on inner products of rows are taken for related."""
SAME_GRAM = 0.6
"""Likeness from which on Gram matrices count. It is 0.48 at most between 36 pairs of checkpoints of
two unrelated tiny models, whose few strong directions a wrong gauge brings together, and 0.86 to
0.99 at its largest between fine-tunes whose neurons and heads were numbered anew."""


class IncomparableWeightsError(ValueError):
    """Weights of which no rows are known to be the same, or whose tensors are in no table."""


@dataclass(frozen=True, eq=False)
class WeightCorrelation:
    """Correlation of the coordinates of two residual streams over the rows of weights.

    Attributes
    ----------
    correlation : float32 tensor [D, D]
        ``C[i, j] = corr(target_i, source_j)`` over the rows of all tensors that count, whitened.
    rows : int
        How many rows of one weight say as much: what is chance has a spread of ``rows ** -0.5``.
    tensors : dict of str to float
        How alike the order of the rows is in each tensor that counts, 1 at most, by its name in the
        target.
    grams : dict of str to float
        The same of the Gram matrices of tensors whose rows come in another order in the source.
    left_out : tuple of str
        Tensors of the target that count in neither way, or that the source has not.
    """

    correlation: torch.Tensor
    rows: int
    tensors: dict[str, float]
    grams: dict[str, float]
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
        try:
            reader = Reader.of(model)
            tensors = PlacedWeights(reader.model)
            reader.axes.require_names(tensors)
        except ValueError as unknown:
            raise IncomparableWeightsError(str(unknown)) from None
        where = f"the {reader.axes.model_type} model"
        return cls(reader.axes, tensors.once, _finite(tensors.__getitem__, where))


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
    IncomparableWeightsError
        A ValueError: if no rows of the two are the same, or a model has tensors that are in no
        table.
    ValueError
        If the widths differ, or a weight is not finite.
    """
    if rows not in get_args(Rows):
        raise ValueError(f"rows must be one of {', '.join(get_args(Rows))}; got {rows!r}")
    ours, theirs = Weights.of(target), Weights.of(source)
    require_same_width(ours.axes, theirs.axes)
    moments = _Moments(ours.axes.dim)
    counted: dict[str, float] = {}
    others: dict[str, str | None] = {}
    pairs = list(_pairs(ours, theirs))
    for name, twin in progress(pairs, "Correlating weights"):
        y = _rows(ours, name)
        if len(y) < FEWEST_ROWS:
            continue
        x = y[:0] if twin is None else _rows(theirs, twin)
        if alike := likeness_of_order(y, x) if rows == "auto" else float(len(x) >= FEWEST_ROWS):
            counted[name] = alike
            count = min(len(y), len(x))
            moments.add(y[:count], x[:count], alike**2)
        else:
            others[name] = twin
    if not counted:
        raise IncomparableWeightsError(
            "no rows of weights come in one order in the two models, so weights tell nothing of "
            "the gauge between them: take evidence='activations'"
        )
    grams: dict[str, float] = {}
    known = {name: twin for name, twin in others.items() if twin is not None}
    if known:
        found = solve(moments.correlation(), sign_marginalized=True)
        assert found.sign is not None
        gauge = SignedPermutation(found.col_ind, found.sign)
        for name in progress(list(known), "Correlating Grams"):
            y, x = _gram(_rows(ours, name)), gauge.apply(_gram(_rows(theirs, known[name])), dim=0)
            if (alike := likeness_of_order(y, x)) >= SAME_GRAM:
                grams[name] = alike
                moments.add(y, x, alike**2)
    left_out = tuple(name for name in others if name not in grams)
    return WeightCorrelation(moments.correlation(), moments.rows, counted, grams, left_out)


def _gram(rows: torch.Tensor) -> torch.Tensor:
    """Products of coordinates over rows about their mean, float32 [D, D], 0 on the diagonal."""
    mean = rows.mean(0, dtype=torch.float32)
    gram = torch.zeros(rows.shape[1], rows.shape[1])
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE].float() - mean
        gram.addmm_(part.T, part)
    return gram.fill_diagonal_(0)


def weights_if_comparable(
    target: Any, source: Any, progress: Progress = silent
) -> WeightCorrelation | None:
    """As `correlate_weights`; None where the weights of the two models cannot be compared."""
    try:
        return correlate_weights(target, source, progress=progress)
    except IncomparableWeightsError:
        return None


class _Moments:
    """Products of the rows of two models' tensors, between them and in each."""

    def __init__(self, width: int) -> None:
        self._of_both, self._of_target, self._of_source = (
            SiteMoments((0,), width, width) for _ in range(3)
        )
        self._weight, self._square = 0.0, 0.0

    @property
    def rows(self) -> int:
        """How many rows of one weight say as much as those of several."""
        return round(self._weight**2 / self._square)

    def add(self, y: torch.Tensor, x: torch.Tensor, weight: float) -> None:
        """Add rows ``[R, D]`` of one tensor, about their mean, at a mean square of `weight`."""
        self._weight += weight * len(y)
        self._square += weight**2 * len(y)
        scaled = [_scale(rows) for rows in (y, x)]
        for start in range(0, len(y), ROWS_AT_ONCE):
            target, source = (
                (rows[start : start + ROWS_AT_ONCE].float() - mean) * (factor * weight**0.5)
                for rows, (mean, factor) in zip((y, x), scaled, strict=True)
            )
            self._of_both.update(target[None], source[None])
            self._of_target.update(target[None], target[None])
            self._of_source.update(source[None], source[None])

    def correlation(self) -> torch.Tensor:
        """Of whitened coordinates, float32 ``[D, D]``."""
        both, target, source = (
            moments.statistics.comoment[0]
            for moments in (self._of_both, self._of_target, self._of_source)
        )
        left, right = _whitening(target), _whitening(source)
        return (left @ both @ right.T).float()


def _scale(rows: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The mean of rows, float32 [D], and what brings them to root mean square 1 about it."""
    mean, square = rows.mean(0, dtype=torch.float32), 0.0
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE].float() - mean
        square += float(part.square().sum())
    return mean, (rows.numel() / square) ** 0.5 if square else 0.0


def _whitening(gram: torch.Tensor) -> torch.Tensor:
    """What whitens coordinates of these moments and brings each to length 1, float64 [D, D]."""
    values, vectors = torch.linalg.eigh(gram)
    values = values.clamp(min=0)
    root = (values + RIDGE * values.mean()).rsqrt()
    white = (vectors * root) @ vectors.T
    length = (white @ gram * white).sum(1, keepdim=True).sqrt()
    return torch.where(length > 0, white / length, 0.0)


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
    known = {bare_name(name): name for name in source.names}
    for name in sorted(target.names):  # sums do not depend on the order of shards
        rule = target.axes.rule(name)
        if rule is None or [signed for _, signed in rule.axes] != [True]:
            continue
        bare = bare_name(name)
        block = _BLOCK.search(bare)
        if block is None:
            yield name, known.get(bare)
        elif int(block[0]) in layers:
            paired = layers[int(block[0])]
            yield name, known.get(f"{bare[: block.start()]}{paired}{bare[block.end() :]}")


_BLOCK = re.compile(r"(?<=\.)\d+(?=\.)")


def bare_name(name: str) -> str:
    """The name without that of the base model, which some checkpoints leave out."""
    return name.removeprefix("model.").removeprefix("transformer.")


def _rows(weights: Weights, name: str) -> torch.Tensor:
    """A tensor with its coordinates last, [rows, D], on the CPU as it is stored."""
    rule = weights.axes.rule(name)
    assert rule is not None
    tensor = weights.read(name).detach().cpu().movedim(rule.axes[0][0], -1)
    return tensor.reshape(-1, weights.axes.dim)


def likeness_of_order(y: torch.Tensor, x: torch.Tensor) -> float:
    """How alike inner products of neighbouring rows are: 0 where it could be chance, 1 at most.

    Parameters
    ----------
    y, x : floating [R, D] and [R', D]
        Rows in any two gauges of the stream; of those that one has more, the first count.

    Returns
    -------
    float
        The correlation of the cosines of rows up to 8 apart, if it exceeds 3 standard errors.
    """
    count = min(len(y), len(x), PRODUCTS)
    if count < FEWEST_ROWS:
        return 0.0
    lags = range(1, min(max(1, PRODUCTS // count), 8, count - 1) + 1)
    a, b = (torch.nn.functional.normalize(rows[:count].float(), dim=1) for rows in (y, x))
    p, q = (torch.cat([(rows[k:] * rows[:-k]).sum(1) for k in lags]) for rows in (a, b))
    p, q = p - p.mean(), q - q.mean()
    scale = float(p.norm() * q.norm())
    alike = float(p @ q) / scale if scale else 0.0
    return alike if alike * len(p) ** 0.5 >= SAME_ORDER else 0.0
