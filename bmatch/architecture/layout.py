"""Words for axes: how long one is, which space it carries, and a gauge's action on it.

``vocab_size`` is a length and no more. ``D`` is the residual stream with its signs, ``+D`` without;
``LENGTH:D,D`` has it twice over, as what reads it beside the embeddings. ``LENGTH:mlp`` carries the
space `mlp`, ``LENGTH:+mlp`` without its signs; ``LENGTH:+mlp,mlp`` in two parts of one length, the
second with signs. Where a part is longer than the space, each unit is a block of neighbouring
entries: a head. ``LENGTH:+heads|LENGTH:+heads,+heads|LENGTH`` has pieces
with blocks of other widths (q beside k and v of fewer heads), or that do not carry the space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from bmatch.architecture.spaces import Part
from bmatch.arrays import AnyArray, is_tensor
from bmatch.gauge import SignedPermutation
from bmatch.groups import Gauge


@dataclass(frozen=True)
class Piece:
    """A stretch of an axis, divided into parts of one length.

    Attributes
    ----------
    length : str
        A number, an expression of the config's fields, or ``any``.
    odd : tuple of bool
        Whether units flip, for each part; empty where no space is carried.
    """

    length: str
    odd: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Word:
    """One axis of one kind of tensor.

    Attributes
    ----------
    pieces : tuple of Piece
        Those that carry anything carry the same space.
    space : str
        The key of the space that the axis carries, empty if none.
    """

    pieces: tuple[Piece, ...]
    space: str = ""

    @property
    def length(self) -> str:
        """Of the whole axis."""
        return "+".join(piece.length for piece in self.pieces)

    @property
    def odd(self) -> tuple[bool, ...]:
        """Whether units flip, for each part of the axis."""
        return tuple(flip for piece in self.pieces for flip in piece.odd)

    def without_space(self) -> Word:
        """The length alone."""
        return Word((Piece(self.length),))

    def of_any_length(self) -> Word:
        """The same where lengths are not told; without its space where pieces go by them."""
        if len(self.pieces) > 1:
            return Word((Piece("any"),))
        return Word((Piece("any", self.odd),), self.space)

    def parts(self, units: int, length: int, sizes: Callable[[str], int | None]) -> list[Part]:
        """What `units` of the space fill of an axis.

        Parameters
        ----------
        units, length : int
            Of the axis, in entries.
        sizes : callable
            From the length of a piece to a number.

        Raises
        ------
        ValueError
            If a piece does not divide into so many blocks, or pieces do not add up to the axis.
        """
        single = len(self.pieces) == 1
        lengths = [length if single else sizes(piece.length) for piece in self.pieces]
        if any(n is None for n in lengths) or sum(n or 0 for n in lengths) != length:
            raise ValueError(f"{length} entries, not {self.length}")
        found: list[Part] = []
        start = 0
        for piece, extent in zip(self.pieces, lengths, strict=True):
            width, rest = divmod(extent or 0, units * max(len(piece.odd), 1))
            if piece.odd and (rest or not width):
                count = len(piece.odd)
                raise ValueError(f"{extent} entries, not {count} parts of {units} blocks")
            found += [
                Part(start + k * units * width, width, flips) for k, flips in enumerate(piece.odd)
            ]
            start += extent or 0
        return found

    def __str__(self) -> str:
        if self.space == "D" and len(self.odd) == 1:
            return "D" if self.odd[0] else "+D"
        written = []
        for piece in self.pieces:
            carried = ",".join(self.space if flips else f"+{self.space}" for flips in piece.odd)
            written.append(f"{piece.length}:{carried}" if carried else piece.length)
        return "|".join(written)


@cache
def words(shape: str) -> tuple[Word, ...]:
    """The words of a shape, one an axis."""
    return tuple(_word(text) for text in shape.split())


def stream(*odd: bool, length: str = "") -> Word:
    """An axis that is the residual stream, or several times over, of a length that is told."""
    return Word((Piece("D" if len(odd) == 1 else length, odd),), "D")


def _word(text: str) -> Word:
    if text in ("D", "+D"):
        return stream(text == "D")
    space, pieces = "", []
    for piece in text.split("|"):
        length, _, carried = piece.partition(":")
        flips = tuple(not part.startswith("+") for part in carried.split(",") if part)
        space = carried.split(",")[0].removeprefix("+") or space
        pieces.append(Piece(length, flips))
    return Word(tuple(pieces), space)


def carry(tensor: AnyArray, axis: int, gauge: Gauge, parts: Sequence[Part]) -> AnyArray:
    """A tensor under a gauge along one axis, whose units fill these parts of it."""
    length = tensor.shape[axis]
    if length == gauge.dim:
        odd = parts[0].odd
        return gauge.apply(tensor, axis) if odd else gauge.apply_permutation(tensor, axis)
    if not isinstance(gauge, SignedPermutation):  # of the stream, which lies there several times
        shape = tuple(tensor.shape)
        apart = (*shape[:axis], len(parts), gauge.dim, *shape[axis + 1 :])
        copies: Any = tensor.reshape(apart)
        moved: AnyArray = carry(copies, axis + 1, gauge, parts[:1]).reshape(shape)
        return moved
    return widened(gauge, parts, length).apply(tensor, axis)


def carry_slabs(
    tensor: AnyArray, axis: int, gauges: Mapping[int, Gauge], parts: Sequence[Part]
) -> AnyArray:
    """A tensor under gauges along one axis, one for each index on axis 0 that has one."""
    if not gauges:
        return tensor
    moved: Any = tensor.clone() if is_tensor(tensor) else np.array(tensor)  # type: ignore[union-attr]
    for slab, gauge in gauges.items():
        moved[slab] = carry(tensor[slab], axis - 1, gauge, parts)
    result: AnyArray = moved
    return result


def widened(gauge: SignedPermutation, parts: Sequence[Part], length: int) -> SignedPermutation:
    """The gauge of an axis on whose parts each unit of `gauge` is a block of entries."""
    given = gauge.perm
    plain = gauge.to(None)
    perm, sign = np.asarray(plain.perm), np.asarray(plain.sign)
    places, signs = np.arange(length), np.ones(length, np.int8)
    for start, width, odd in parts:
        filled = slice(start, start + gauge.dim * width)
        places[filled] = (start + perm[:, None] * width + np.arange(width)).ravel()
        if odd:
            signs[filled] = np.repeat(sign, width)
    wide = SignedPermutation(places, signs)
    return wide.to(given.device) if is_tensor(given) else wide
