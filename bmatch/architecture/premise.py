"""The premise that signed permutations are the whole gauge: whether a model's gains are generic.

Let ``g_n`` be the gains of norm n. An orthogonal map R of the stream keeps the function and the
form of the model, every reader carried by R and every norm a norm, exactly if ``R diag(g_n) R^T``
is diagonal for all n. So R permutes coordinates, and rotates those among themselves whose gains are
equal in every norm. Signed permutations are all of it where no two coordinates have equal gains; it
is the whole orthogonal group where the gains of each norm are flat.

Gains that are proportional, ``g_n(i) = c_i a_n`` for all n, are no gauge of that kind: R does not
commute with them. But the factors c can be folded into all readers at once, ``W diag(c)``,
whichever norm they follow, and then R is free: a reader is carried by ``diag(c) R^T`` and not by
``R^T``. That map is not orthogonal, and a tied unembedding, which is carried as the embedding is,
forbids it. (Folding each norm's gains into its own readers frees the rotations of any model, and
leaves flat gains behind.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bmatch.architecture.axes import ResidualAxes
from bmatch.arrays import as_array
from bmatch.groups import Group
from bmatch.rotations import FLAT

_ROWS = 1024  # of the matrix of all distances, at once


@dataclass(frozen=True)
class Premise:
    """What the gains of a model say of its gauge.

    Attributes
    ----------
    group : str
        The gauge group that the architecture has whatever its gains.
    model_type : str
    vectors : int
        How many vectors of gains the stream meets, one a norm; 0 where norms have none.
    spread : float
        Largest difference between two gains of one norm, in units of its largest gain.
    widest : str
        The tensor with that spread; empty if there are no gains.
    ones : bool
        Whether every gain is 1, as folding leaves them.
    equal, proportional : tuple of tuple of int
        Coordinates whose gains are equal, or proportional, in all norms, at least two a group.
        Groups of proportional gains that are all equal are not listed again.
    nearest : float
        Least distance between coordinates of different groups: root mean square over the norms of
        the difference of their gains, in units of each norm's root mean square gain.
    """

    group: Group
    model_type: str
    vectors: int
    spread: float
    widest: str
    ones: bool
    equal: tuple[tuple[int, ...], ...]
    proportional: tuple[tuple[int, ...], ...]
    nearest: float

    @property
    def flat(self) -> bool:
        """Whether each norm has one gain for all coordinates, or none."""
        return self.spread <= FLAT

    @property
    def gains(self) -> str:
        """The gains in words."""
        if self.vectors == 0:
            return "none"
        if self.flat:
            return "all 1, as folding leaves them" if self.ones else "flat in every norm"
        return "equal for some coordinates" if self.equal else "generic"

    @property
    def whole_gauge(self) -> str:
        """The gauge in words, if the architecture stays under rotations where gains are flat."""
        fixed = " that fix the ones vector" if self.group == "permutation_global_sign" else ""
        if self.group == "permutation" or not (self.flat or self.equal):
            return self.group
        if self.flat:
            return f"orthogonal maps{fixed}" if fixed else "orthogonal"
        within = f"{len(self.equal)} group{'s' * (len(self.equal) > 1)} of equal gains"
        return f"{self.group}, and rotations{fixed} within {within}"

    def require_flat(self) -> None:
        """Refuse a model whose gauge is not the orthogonal group.

        Raises
        ------
        ValueError
            With the tensor whose gains differ most, and what to do.
        """
        if not self.flat:
            raise ValueError(
                f"the gauge group of this {self.model_type} is {self.group} and not orthogonal: "
                f"gains of {self.widest} differ by {self.spread:.2g} of the largest, and a "
                "rotation makes of differing gains a matrix that no norm holds; fold the gains "
                "into what reads them first (as SliceGPT, QuaRot and TransformerLens do)"
            )


def premise(axes: ResidualAxes, tensors: Iterable[tuple[str, Any]]) -> Premise:
    """Test a model's gains, in the memory of one tensor and of all gains.

    Parameters
    ----------
    axes : ResidualAxes
        The model's table.
    tensors : iterable of (str, array or tensor)
        The model's tensors by name; those without gains may be left out.

    Notes
    -----
    Gains that are stored as w and used as 1 + w are equal where w is; proportional groups are those
    of the stored numbers. Two vectors of gains count as proportional if the angle between them is
    below the rounding of the type in which they are stored.
    """
    rows: list[npt.NDArray[np.float64]] = []
    spread, widest, step = 0.0, "", FLAT
    for name, tensor in tensors:
        rule = axes.rule(name)
        for axis, signed in () if rule is None else rule.axes:
            if not axes.is_scale(signed, tensor.ndim):
                continue
            step = max(step, _rounding(tensor))
            gains = np.moveaxis(as_array(tensor), axis, -1).reshape(-1, axes.dim).astype(float)
            largest = np.abs(gains).max(-1)
            apart = np.ptp(gains, axis=-1) / np.where(largest == 0, 1, largest)
            if not widest or apart.max() > spread:
                spread, widest = float(apart.max()), name
            rows.append(gains)
    if not rows:
        return Premise(axes.group, axes.model_type, 0, 0.0, "", False, (_all(axes),), (), np.inf)
    gains = np.concatenate(rows)  # [norms, D]
    vectors, ones = len(gains), bool(np.abs(gains - 1).max() <= FLAT)
    equal: tuple[tuple[int, ...], ...] = (_all(axes),)
    proportional: tuple[tuple[int, ...], ...] = ()
    nearest = np.inf
    if spread > FLAT:
        scale = np.sqrt((gains**2).mean(1, keepdims=True))
        gains = gains / np.where(scale == 0, 1, scale)
        centred = gains - gains.mean(1, keepdims=True)
        equal, nearest = _near(centred.T / vectors**0.5, FLAT)
        length = np.sqrt((gains**2).sum(0))
        directions = gains / np.where(length == 0, 1, length)
        listed = [set(group) for group in equal]
        lines, _ = _near(directions.T, step, lines=True)
        proportional = tuple(g for g in lines if not any(set(g) <= known for known in listed))
    return Premise(
        *(axes.group, axes.model_type, vectors, spread, widest, ones),
        *(equal, proportional, nearest),
    )


def _all(axes: ResidualAxes) -> tuple[int, ...]:
    return tuple(range(axes.dim))


def _rounding(tensor: Any) -> float:
    """Spacing of numbers at 1 in the type of an array or a tensor."""
    kind = str(tensor.dtype).removeprefix("torch.")
    if kind in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        return 2.0 ** -{"bfloat16": 7, "float8_e4m3fn": 3, "float8_e5m2": 2}[kind]
    return float(np.finfo(kind).eps) if kind.startswith("float") else 0.0


def _near(
    points: npt.NDArray[np.float64], most: float, *, lines: bool = False
) -> tuple[tuple[tuple[int, ...], ...], float]:
    """Groups of points [D, N] that lie together, and the least distance between others.

    With `lines`, of unit vectors up to their sign.
    """
    dim = len(points)
    square = (points**2).sum(1)
    leader, nearest = np.arange(dim), np.inf
    for start in range(0, dim, _ROWS):
        block = slice(start, start + _ROWS)
        product = points[block] @ points.T
        if lines:
            distance = 2 * (1 - np.abs(product))
        else:
            distance = square[block, None] + square - 2 * product
        distance = np.sqrt(np.maximum(distance, 0))
        own = np.arange(len(distance))
        distance[own, start + own] = 0.0  # of a zero vector, too
        together = distance <= most
        leader[block] = together.argmax(1)  # the first that is near
        distance[together] = np.inf
        nearest = min(nearest, float(distance.min()))
    while not np.array_equal(leader, leader[leader]):
        leader = leader[leader]
    order = np.argsort(leader, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(leader[order])) + 1)
    return tuple(tuple(map(int, group)) for group in groups if len(group) > 1), nearest
