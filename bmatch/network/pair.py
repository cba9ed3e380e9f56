"""Tensors of both networks, and what the gauge found so far makes of the source's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, replace

import numpy as np
import torch

from bmatch.architecture.nesting import Nesting, moves_of
from bmatch.architecture.spaces import Axes, Member, Space
from bmatch.gauge import SignedPermutation

Elements = dict[str, SignedPermutation]
Read = Callable[[str], torch.Tensor]


@dataclass(frozen=True)
class Tensors:
    """A part's tensors of target and source, float32, by name, and the weight of each.

    The weight makes the mean square of both tensors' entries 1.
    """

    target: Mapping[str, torch.Tensor]
    source: Mapping[str, torch.Tensor]
    weight: Mapping[str, float]

    @classmethod
    def read(cls, names: tuple[str, ...], target: Read, source: Read) -> Tensors:
        """Read tensors of these names.

        Raises
        ------
        ValueError
            If a tensor has one shape in the target and another in the source, or is not finite.
        """
        a = {name: target(name).float() for name in names}
        b = {name: source(name).float() for name in names}
        weight = {}
        for name in names:
            if a[name].shape != b[name].shape:
                raise ValueError(
                    f"{name} is {list(a[name].shape)} in the target and {list(b[name].shape)} in "
                    "the source: whole networks align where all shapes are the same"
                )
            norms = _norm(a[name]) * _norm(b[name])
            if not np.isfinite(norms):
                raise ValueError(f"{name} holds NaN or infinite weights, or has too large ones")
            weight[name] = a[name].numel() / norms if norms else 0.0
        return cls(a, b, weight)


class Carrier:
    """What the elements of all spaces do to tensors, or all of them but some."""

    def __init__(self, axes: Axes, nesting: Nesting) -> None:
        self.moves = moves_of(axes, nesting)

    def others(self, tensor: str, space: Space) -> set[str]:
        """The other spaces that a tensor carries."""
        return {other.name for other, _ in self.moves[tensor]} - {space.name}

    def carried(
        self,
        name: str,
        tensor: torch.Tensor,
        elements: Elements,
        without: Set[str] = frozenset(),
        slab: int | None = None,
        skip: Member | None = None,
    ) -> torch.Tensor:
        """A tensor under the elements of all spaces that have one, in their order.

        Parameters
        ----------
        name, tensor
        elements : dict of str to SignedPermutation
        without : set of str
            Spaces that are held at the identity.
        slab : int, optional
            The slab to make, alone: what ends at this index of axis 0.
        skip : Member, optional
            One that is not moved; others of its space are.
        """
        acting = [
            (elements[space.name], m)
            for space, m in self.moves.get(name, ())
            if space.name in elements and space.name not in without and m is not skip
        ]
        if slab is None:
            result = tensor.clone() if acting else tensor
        else:
            places = torch.arange(1, len(tensor) + 1)  # with signs
            for element, m in acting:
                if (m.axis, m.slab) == (0, None):
                    m.carry(places, element)
            place = int(places[slab])
            result = tensor[abs(place) - 1] * (1 if place > 0 else -1)
            acting = [
                (element, replace(m, axis=m.axis - 1, slab=None))
                for element, m in acting
                if m.axis > 0 and m.slab in (None, slab)
            ]
        for element, m in acting:
            m.carry(result, element)
        return result

    def agreement(self, name: str, tensors: Tensors, elements: Elements) -> float:
        """A tensor's term of the objective: at most its number of entries."""
        carried = self.carried(name, tensors.source[name], elements)
        product = float((tensors.target[name] * carried).sum(dtype=torch.float64))
        return tensors.weight[name] * product


def _norm(tensor: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64))


def unit_rows(tensor: torch.Tensor, axis: int, member: Member, size: int) -> torch.Tensor:
    """A member's entries ``[size, entries of a unit, rest]``."""
    places = torch.as_tensor(member.entries(size)).ravel()
    moved = tensor.movedim(axis, 0)
    if member.strides == (1,) and member.offsets == (0,) and size == len(moved):
        return moved.reshape(size, 1, -1)
    return moved.index_select(0, places).reshape(size, len(member.offsets), -1)
