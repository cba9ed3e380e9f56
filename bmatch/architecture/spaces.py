"""Gauge spaces of a model: what may be permuted, with or without signs, and in which tensors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bmatch.gauge import SignedPermutation
from bmatch.groups import Group


class Part(NamedTuple):
    """A stretch of an axis that a space fills, one block of neighbouring entries a unit."""

    start: int
    width: int  # of a block
    odd: bool


@dataclass(frozen=True)
class Member:
    """One axis of one tensor that carries a space.

    Entry r of unit k lies at ``offsets[r] + strides[r] * k`` along the axis.

    Attributes
    ----------
    tensor : str
        The name of a parameter, or of a buffer that checkpoints keep.
    axis : int
    slab : int or None
        The index on axis 0 to which this is confined: one expert of several in one tensor.
    strides, offsets : tuple of int
        One for each entry of a unit.
    odd : tuple of bool
        For each entry of a unit, whether it flips with the unit; those that do not are permuted
        only.
    """

    tensor: str
    axis: int
    slab: int | None
    strides: tuple[int, ...]
    offsets: tuple[int, ...]
    odd: tuple[bool, ...]

    def entries(self, size: int) -> npt.NDArray[np.int64]:
        """Where the entries of `size` units lie: int64 [size, entries of a unit]."""
        first: npt.NDArray[np.int64] = np.arange(size)[:, None] * np.array(self.strides)
        places: npt.NDArray[np.int64] = first + np.array(self.offsets)
        return places

    @property
    def is_blocks(self) -> bool:
        """Whether units are blocks of several neighbouring entries."""
        return max(self.strides) > 1

    def parts(self, size: int) -> tuple[Part, ...] | None:
        """The stretches of the axis that `size` units fill; None if they lie in another way."""
        found: list[Part] = []
        row, end = 0, 0
        while row < len(self.offsets):
            start, width = self.offsets[row], self.strides[row]
            block = slice(row, row + width)
            flips = set(self.odd[block])
            if (
                start < end
                or self.offsets[block] != tuple(range(start, start + width))
                or self.strides[block] != (width,) * width
                or len(flips) > 1
            ):
                return None
            found.append(Part(start, width, flips.pop()))
            row, end = row + width, start + size * width
        return tuple(found)

    def carry(self, tensor: Any, gauge: SignedPermutation) -> None:
        """Move the entries of a torch tensor in place: unit i becomes sign[i] x unit perm[i]."""
        import torch

        target = tensor if self.slab is None else tensor.select(0, self.slab)
        axis = self.axis if self.slab is None else self.axis - 1
        places = torch.as_tensor(self.entries(gauge.dim), device=tensor.device)
        flips = np.where(np.array(self.odd), np.asarray(gauge.sign)[:, None], 1).ravel()
        shape = [-1 if k == axis else 1 for k in range(target.ndim)]
        factor = torch.as_tensor(flips, device=tensor.device, dtype=tensor.dtype).view(shape)
        source = places[torch.as_tensor(np.array(gauge.perm), device=tensor.device)]
        moved = target.index_select(axis, source.ravel()) * factor
        target.index_copy_(axis, places.ravel(), moved)


def member_of(place: tuple[str, int, int | None], parts: Iterable[Part]) -> Member:
    """The member at tensor, axis and slab whose units fill these stretches of the axis."""
    entries = [(part, part.start + k) for part in parts for k in range(part.width)]
    return Member(
        *place,
        strides=tuple(part.width for part, _ in entries),
        offsets=tuple(offset for _, offset in entries),
        odd=tuple(part.odd for part, _ in entries),
    )


@dataclass(frozen=True)
class Space:
    """A set of units that move freely, and all that moves with them.

    Attributes
    ----------
    name : str
        ``residual`` for the stream that most of a model shares; where a space is, and what its
        units are, for others.
    group : str
        Of the gauge: one of the names of `bmatch.groups`.
    size : int
        Number of units: coordinates, neurons, heads, experts.
    members : tuple of Member
    """

    name: str
    group: Group
    size: int
    members: tuple[Member, ...]

    def random(self, seed: int) -> SignedPermutation:
        """An element of the gauge group that moves every unit, drawn at random."""
        order = np.random.default_rng(seed).permutation(self.size)
        cycle = np.empty(self.size, np.int64)
        cycle[order] = np.roll(order, 1)
        sign = np.ones(self.size, np.int8)
        if self.group == "signed_permutation":
            sign[order[::2]] = -1
        elif self.group == "permutation_global_sign":
            sign[:] = -1
        return SignedPermutation(cycle, sign)


@dataclass(frozen=True)
class Axes:
    """All gauge spaces of a model.

    Attributes
    ----------
    spaces : tuple of Space
    unknown : tuple of str
        Operations without a rule: all that they touched is fixed.
    unread : tuple of str
        Tensors that the traced run did not read: what they carry is not known.
    alike : tuple of str
        Tensors of which no run has read some slabs: these carry the stream as the others do.
    refuted : tuple of str
        Spaces that the proof has dropped, with the reason.
    unmapped : tuple of str
        Spaces of the tiny model that were not carried over to the sizes of the full one.
    """

    spaces: tuple[Space, ...]
    unknown: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    alike: tuple[str, ...] = ()
    refuted: tuple[str, ...] = ()
    unmapped: tuple[str, ...] = ()

    @property
    def residual(self) -> Space | None:
        """The residual stream's space; None if the model fixes its coordinates."""
        return next((space for space in self.spaces if space.name == "residual"), None)
