"""Spaces inside the units of others: neurons of an expert, coordinates of a head.

A unit that moves takes along all that lies in it. So a space in one unit of another has one like it
in every unit, its siblings, and an element of the outer space permutes them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from bmatch.architecture.spaces import Axes, Member, Space

Place: TypeAlias = tuple[str, int, int | None]
"""Tensor, axis and slab."""


class Within(NamedTuple):
    """That a space lies in a unit of another, and which spaces are its siblings there."""

    outer: str
    siblings: tuple[str, ...]  # by the outer space's unit
    unit: int


@dataclass(frozen=True)
class Nesting:
    """Which spaces lie in units of others.

    Attributes
    ----------
    orbits : mapping of str to tuple of tuple of str
        For each space that has others in its units, the siblings among them: one name a unit.
    """

    orbits: Mapping[str, tuple[tuple[str, ...], ...]]

    @classmethod
    def of(cls, axes: Axes) -> Nesting:
        """As the members of the spaces have it.

        Raises
        ------
        ValueError
            If some units of a space hold another space and others do not.
        """
        sizes = {space.name: space.size for space in axes.spaces}
        found = _siblings(axes)
        for outer, groups in found.items():
            for by_unit in groups:
                if len(by_unit) != sizes[outer]:
                    raise ValueError(
                        f"{len(by_unit)} of the {sizes[outer]} units of {outer} hold a space like "
                        f"{next(iter(by_unit.values()))}, and the others none: what moves them "
                        "is not known"
                    )
        orbits = {
            outer: tuple(tuple(by_unit[unit] for unit in range(sizes[outer])) for by_unit in groups)
            for outer, groups in found.items()
        }
        return cls(orbits)

    @cached_property
    def within(self) -> Mapping[str, tuple[Within, ...]]:
        """For each space in units of others what it lies in, the innermost first."""
        found: dict[str, list[Within]] = defaultdict(list)
        for outer, orbits in self.orbits.items():
            for siblings in orbits:
                for unit, name in enumerate(siblings):
                    found[name].append(Within(outer, siblings, unit))
        depth = {name: len(levels) for name, levels in found.items()}
        return {
            name: tuple(sorted(levels, key=lambda level: -depth.get(level.outer, 0)))
            for name, levels in found.items()
        }

    def depth(self, name: str) -> int:
        """In how many spaces' units a space lies."""
        return len(self.within.get(name, ()))

    def inside(self, name: str, unit: int) -> tuple[str, ...]:
        """The spaces in a unit of a space."""
        return tuple(siblings[unit] for siblings in self.orbits.get(name, ()))

    def aside(self, name: str) -> frozenset[str]:
        """The spaces in other units of what a space lies in: they touch no entry of it."""
        return frozenset(
            other
            for level in self.within.get(name, ())
            for unit in range(len(level.siblings))
            if unit != level.unit
            for other in self.inside(level.outer, unit)
        )

    def source(self, name: str, perms: Mapping[str, npt.NDArray[np.int64]]) -> str:
        """Which space its entries lay in before the outer ones moved by `perms`."""
        for level in range(self.depth(name)):
            outer, siblings, unit = self.within[name][level]
            if outer in perms:
                name = siblings[int(perms[outer][unit])]
        return name

    def restricted(self, names: set[str]) -> Nesting:
        """The nesting among some of the spaces."""
        kept = {
            outer: tuple(siblings for siblings in orbits if set(siblings) <= names)
            for outer, orbits in self.orbits.items()
            if outer in names
        }
        return Nesting({outer: orbits for outer, orbits in kept.items() if orbits})


def without_strays(axes: Axes) -> Axes:
    """The spaces without those that lie in some units of another and have no like in the rest.

    `Axes.unmapped` names them.
    """
    sizes = {space.name: space.size for space in axes.spaces}
    strays = {
        name: outer
        for outer, groups in _siblings(axes).items()
        for by_unit in groups
        if len(by_unit) != sizes[outer]
        for name in by_unit.values()
    }
    kept = tuple(space for space in axes.spaces if space.name not in strays)
    told = (f"{name}: other units of {outer} have none like it" for name, outer in strays.items())
    return replace(axes, spaces=kept, unmapped=(*axes.unmapped, *told))


def moves_of(axes: Axes, nesting: Nesting) -> dict[str, list[tuple[Space, Member]]]:
    """What acts on each tensor, in this order: outer spaces before those in their units."""
    moves: dict[str, list[tuple[Space, Member]]] = defaultdict(list)
    for space in sorted(axes.spaces, key=lambda space: nesting.depth(space.name)):
        for member in space.members:
            moves[member.tensor].append((space, member))
    return moves


def _places(member: Member) -> list[Place]:
    """Where a space would have to act to have the member in one of its units."""
    if member.slab is None:
        return [(member.tensor, member.axis, None)]
    return [(member.tensor, member.axis, member.slab), (member.tensor, 0, None)]


def _siblings(axes: Axes) -> dict[str, list[dict[int, str]]]:
    """For each space that has others in its units, those that lie alike in them, by unit."""
    outers = _unit_maps(axes)
    alike: dict[str, dict[tuple[object, ...], dict[int, str]]] = defaultdict(dict)
    for space in axes.spaces:
        places = {place for member in space.members for place in _places(member)}
        near = {place: outers[place] for place in places if place in outers}
        names = {name for maps in near.values() for name in maps}
        for outer in sorted(names - {space.name}):
            found = _local(space, {p: maps[outer] for p, maps in near.items() if outer in maps})
            if found is not None:
                unit, signature = found
                alike[outer].setdefault(signature, {})[unit] = space.name
    return {outer: list(groups.values()) for outer, groups in alike.items()}


UnitMap: TypeAlias = dict[int, tuple[int, int]]
"""From an index along an axis to the unit that it lies in, and its number in that unit."""


def _unit_maps(axes: Axes) -> dict[Place, dict[str, UnitMap]]:
    """Of all spaces whose units have several entries, or are slabs of a tensor."""
    slabs = {m.tensor for space in axes.spaces for m in space.members if m.slab is not None}
    maps: dict[Place, dict[str, UnitMap]] = defaultdict(dict)
    for space in axes.spaces:
        for m in space.members:
            holds = len(m.offsets) > 1 or (m.tensor in slabs and m.axis == 0 and m.slab is None)
            if holds:
                unit_map = maps[(m.tensor, m.axis, m.slab)].setdefault(space.name, {})
                shift = len(unit_map)
                for unit, row in enumerate(m.entries(space.size).tolist()):
                    unit_map.update((index, (unit, shift + k)) for k, index in enumerate(row))
    return maps


def _local(space: Space, maps: Mapping[Place, UnitMap]) -> tuple[int, tuple[object, ...]] | None:
    """The unit of an outer space that holds a space, and how it lies there; None if none does."""
    units = set()
    signature: list[object] = []
    for m in space.members:
        where = next((place for place in _places(m) if place in maps), None)
        if where is None:
            return None
        unit_map = maps[where]
        entries = m.entries(space.size)
        if where[2] != m.slab:  # the outer space moves slabs
            found = unit_map.get(m.slab if m.slab is not None else -1)
            if found is None:
                return None
            units.add(found[0])
            signature.append((m.tensor, m.axis, found[1], entries.tobytes(), m.odd))
            continue
        pairs = [unit_map.get(index) for index in entries.ravel().tolist()]
        held = [pair for pair in pairs if pair is not None]
        if len(held) < len(pairs):
            return None
        units.update(unit for unit, _ in held)
        if len(units) > 1:
            return None
        local = np.array([k for _, k in held]).tobytes()
        signature.append((m.tensor, m.axis, m.slab, local, m.odd))
    return (units.pop(), tuple(signature)) if len(units) == 1 else None
