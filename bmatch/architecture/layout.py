"""Words for axes: how long one is, which space it carries, and a gauge's action on it.

``vocab_size`` is a length and no more. ``D`` is the residual stream with its signs, ``+D`` without.
``LENGTH:mlp`` carries the space `mlp`, ``LENGTH:+mlp`` without its signs; ``LENGTH:+mlp,mlp`` in
two parts of one length, the second with signs. Where a part is longer than the space, each unit is
a block of neighbouring entries: a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from bmatch.architecture.spaces import Member
from bmatch.arrays import AnyArray, is_tensor
from bmatch.gauge import SignedPermutation
from bmatch.groups import Gauge


@dataclass(frozen=True)
class Word:
    """One axis of one kind of tensor.

    Attributes
    ----------
    length : str
        A number, an expression of the config's fields, or ``any``.
    space : str
        The key of the space that it carries, empty if none.
    odd : tuple of bool
        Whether units flip, for each part of the axis.
    """

    length: str
    space: str = ""
    odd: tuple[bool, ...] = ()

    def __str__(self) -> str:
        parts = ",".join(self.space if odd else f"+{self.space}" for odd in self.odd)
        return (
            self.length if not parts else parts if self.space == "D" else f"{self.length}:{parts}"
        )


@cache
def words(shape: str) -> tuple[Word, ...]:
    """The words of a shape, one an axis."""
    return tuple(_word(text) for text in shape.split())


def _word(text: str) -> Word:
    length, colon, carried = text.rpartition(":")
    if not colon and text not in ("D", "+D"):
        return Word(text)
    parts = carried.split(",")
    odd = tuple(not part.startswith("+") for part in parts)
    return Word(length or "D", parts[0].removeprefix("+"), odd)


def carry(tensor: AnyArray, axis: int, gauge: Gauge, odd: tuple[bool, ...]) -> AnyArray:
    """A tensor under a gauge along one axis: parts of blocks of units, as `Word` describes them.

    Raises
    ------
    ValueError
        If the axis does not divide into so many blocks.
    """
    length = tensor.shape[axis]
    width = _width(axis, length, gauge.dim, len(odd))
    if length == gauge.dim:
        return gauge.apply(tensor, axis) if odd[0] else gauge.apply_permutation(tensor, axis)
    assert isinstance(gauge, SignedPermutation)  # rotations are of the stream, whose axes are whole
    return widened(gauge, width, odd).apply(tensor, axis)


def carry_slabs(
    tensor: AnyArray, axis: int, gauges: Mapping[int, Gauge], odd: tuple[bool, ...]
) -> AnyArray:
    """A tensor under gauges along one axis, one for each index on axis 0 that has one."""
    if not gauges:
        return tensor
    moved: Any = tensor.clone() if is_tensor(tensor) else np.array(tensor)  # type: ignore[union-attr]
    for slab, gauge in gauges.items():
        moved[slab] = carry(tensor[slab], axis - 1, gauge, odd)
    result: AnyArray = moved
    return result


def member(
    name: str, axis: int, slab: int | None, odd: tuple[bool, ...], size: int, length: int
) -> Member:
    """One axis of a tensor as a member of a space of `size` units.

    Raises
    ------
    ValueError
        If the axis does not divide into so many blocks.
    """
    width = _width(axis, length, size, len(odd))
    offsets = (p * size * width + k for p in range(len(odd)) for k in range(width))
    flips = (flip for flip in odd for _ in range(width))
    return Member(name, axis, slab, width, tuple(offsets), tuple(flips))


def _width(axis: int, length: int, units: int, parts: int) -> int:
    width, rest = divmod(length, units * parts)
    if rest or not width:
        raise ValueError(f"axis {axis} has {length} entries, not {parts} parts of {units} blocks")
    return width


def widened(gauge: SignedPermutation, width: int, odd: tuple[bool, ...]) -> SignedPermutation:
    """The gauge of an axis on whose parts each unit of `gauge` is a block of `width` entries."""
    given = gauge.perm
    plain = gauge.to(None)
    perm, sign = np.asarray(plain.perm), np.asarray(plain.sign)
    blocks = perm[:, None] * width + np.arange(width)
    starts = np.arange(len(odd)) * gauge.dim * width
    signs = np.where(np.array(odd)[:, None], sign, 1).astype(np.int8)
    wide = SignedPermutation((starts[:, None, None] + blocks).ravel(), np.repeat(signs, width))
    return wide.to(given.device) if is_tensor(given) else wide
