"""Gauge spaces of a model: what may be permuted, with or without signs, and in which tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bmatch.gauge import SignedPermutation
from bmatch.groups import Group


@dataclass(frozen=True)
class Member:
    """One axis of one parameter that carries a space.

    Attributes
    ----------
    parameter : str
    axis : int
    slab : int or None
        The index on axis 0 to which this is confined: one expert of several in one tensor.
    entries : tuple of tuple of int
        For each unit of the space, where along the axis its entries lie.
    odd : tuple of bool
        For each entry of a unit, whether it flips with the unit.
    """

    parameter: str
    axis: int
    slab: int | None
    entries: tuple[tuple[int, ...], ...]
    odd: tuple[bool, ...]

    def carry(self, tensor: Any, perm: npt.NDArray[np.int64], sign: npt.NDArray[np.int8]) -> None:
        """Move the entries of a torch tensor in place: unit i becomes sign[i] x unit perm[i]."""
        import torch

        target = tensor if self.slab is None else tensor.select(0, self.slab)
        axis = self.axis if self.slab is None else self.axis - 1
        entries = np.array(self.entries)
        source = torch.as_tensor(entries[perm].ravel(), device=tensor.device)
        factor = np.where(np.array(self.odd), sign[:, None], 1).ravel()
        shape = [-1 if k == axis else 1 for k in range(target.ndim)]
        moved = target.index_select(axis, source)
        moved = moved * torch.as_tensor(factor, device=tensor.device, dtype=tensor.dtype).view(shape)
        target.index_copy_(axis, torch.as_tensor(entries.ravel(), device=tensor.device), moved)


@dataclass(frozen=True)
class Space:
    """A set of units that move freely, and all that moves with them.

    Attributes
    ----------
    name : str
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

    @property
    def width(self) -> int:
        """Entries of a unit along the axis that has most."""
        return max(len(member.odd) for member in self.members)

    def random(self, seed: int) -> SignedPermutation:
        """An element of the gauge group that moves every unit, drawn at random."""
        order = SignedPermutation.random(self.size, "permutation", seed=seed).perm
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
        Parameters that the traced run did not read.
    refuted : tuple of str
        Spaces that the proof has dropped, with the reason.
    """

    spaces: tuple[Space, ...]
    unknown: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    refuted: tuple[str, ...] = ()

    def space(self, name: str) -> Space:
        """The space of this name."""
        for space in self.spaces:
            if space.name == name:
                return space
        known = ", ".join(space.name for space in self.spaces)
        raise KeyError(f"no space {name!r}: there are {known}")
