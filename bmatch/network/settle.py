"""The spaces of one part, with those that reach over parts held fixed, until nothing moves."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from bmatch.architecture.nesting import Nesting
from bmatch.architecture.spaces import Axes, Member, Space
from bmatch.matching import GaugeMatch
from bmatch.network.gains import Choice, Gains
from bmatch.network.pair import Carrier, Elements, Tensors, unit_rows
from bmatch.network.parts import Part
from bmatch.network.prints import add_outer_gains

LEAST = 1e-7
"""A move has to raise the objective by this for each of its units' entries: more than rounding."""


@dataclass
class Search:
    """Where a search stands.

    Attributes
    ----------
    elements : dict of str to SignedPermutation
        Of the spaces that are known.
    found : dict of str to GaugeMatch
        The last assignment of each space.
    moves : list of (str, float)
        Spaces that moved after their first guess, and by how much the objective rose.
    """

    axes: Axes
    nesting: Nesting
    elements: Elements = field(default_factory=dict)
    found: dict[str, GaugeMatch] = field(default_factory=dict)
    moves: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.carrier = Carrier(self.axes, self.nesting)
        self.spaces = {space.name: space for space in self.axes.spaces}

    def settle(self, part: Part, tensors: Tensors) -> None:
        """Move the spaces of a part as long as the objective rises."""
        spaces = {space.name: space for space in part.spaces}
        stale = list(spaces)  # outer ones first
        while stale:
            space = spaces[stale.pop(0)]
            if self._visit(space, spaces, tensors):
                waiting = {*stale, *(s for s in spaces if _heeds(self.nesting, spaces[s], space))}
                stale = [name for name in spaces if name in waiting]

    def objective(self, names: tuple[str, ...], tensors: Tensors) -> float:
        """The terms of some tensors: at most their number of entries."""
        return sum(self.carrier.agreement(name, tensors, self.elements) for name in names)

    def inner(self, space: Space) -> dict[str, Space]:
        """The spaces in the units of a space."""
        return {
            name: self.spaces[name]
            for siblings in self.nesting.orbits.get(space.name, ())
            for name in siblings
        }

    def _visit(self, space: Space, spaces: dict[str, Space], tensors: Tensors) -> bool:
        """Choose anew, the others held; whether something moved, a first guess included."""
        inner = self.inner(space)
        gains = Gains(space.size)
        self.add_gains(gains, space, self._evidence(space), tensors)
        choice = gains.best(space.group)
        known = self.elements.get(space.name)
        if known is None:
            self._take(space, choice)
            return True
        if inner and choice.element != known:
            return self._try(space, choice, inner, spaces, tensors)
        self.found[space.name] = choice.match
        rise = gains.value(choice.element) - gains.value(known)
        if inner or rise <= LEAST * gains.entries:
            return False
        self._take(space, choice)
        self.moves.append((space.name, rise))
        return True

    def _take(self, space: Space, choice: Choice) -> None:
        self.elements[space.name], self.found[space.name] = choice

    def clear(self, space: Space) -> list[str]:
        """Tensors of a space whose other spaces are known, or lie in its units."""
        within = self.inner(space).keys()
        return [
            name
            for name in dict.fromkeys(member.tensor for member in space.members)
            if self.carrier.others(name, space) - within <= self.elements.keys()
        ]

    def _evidence(self, space: Space) -> list[str]:
        """Tensors whose other spaces are known; all, if there are none such."""
        return self.clear(space) or list(dict.fromkeys(m.tensor for m in space.members))

    def add_gains(self, gains: Gains, space: Space, names: list[str], tensors: Tensors) -> None:
        """Count what tensors say about all pairs of units of a space."""
        inner = self.inner(space)
        if inner:
            add_outer_gains(gains, space, inner, names, tensors, self.carrier, self.elements)
            return
        for member in space.members:
            if member.tensor in names:
                self._add_products(gains, space, member, tensors)

    def _add_products(self, gains: Gains, space: Space, member: Member, tensors: Tensors) -> None:
        name = member.tensor
        a, b = tensors.target[name], tensors.source[name]
        twice = sum(m.tensor == name for m in space.members) > 1
        held = self.nesting.aside(space.name) | (frozenset() if twice else {space.name})
        b = self.carrier.carried(name, b, self.elements, held, member.slab, member)
        a = a if member.slab is None else a[member.slab]
        axis = member.axis if member.slab is None else member.axis - 1
        units = [unit_rows(t, axis, member, space.size) for t in (a, b)]
        odd = torch.tensor(member.odd)
        for flips in (False, True):
            rows = odd == flips
            if rows.any():
                one, other = ((t if rows.all() else t[:, rows]).flatten(1) for t in units)
                gains.add(one, other, flips, tensors.weight[name])

    def _try(
        self,
        space: Space,
        choice: Choice,
        inner: dict[str, Space],
        spaces: dict[str, Space],
        tensors: Tensors,
    ) -> bool:
        """Take an outer element if, its units' inner spaces matched anew, the objective rises."""
        names = tuple(dict.fromkeys(m.tensor for s in (space, *inner.values()) for m in s.members))
        kept = dict(self.elements), dict(self.found), list(self.moves)
        before = self.objective(names, tensors)
        known = self.elements[space.name]
        changed = [u for u in range(space.size) if choice.element.perm[u] != known.perm[u]]
        self._take(space, choice)
        fresh = [name for unit in changed for name in self.nesting.inside(space.name, unit)]
        for name in fresh:
            self.elements.pop(name)
        order = [name for name in spaces if name in fresh]
        for name in 2 * order:  # the second time with all of their neighbours known
            self._visit(spaces[name], spaces, tensors)
        rise = self.objective(names, tensors) - before
        entries = sum(tensors.target[name].numel() for name in names)
        self.moves = kept[2]
        if rise > LEAST * entries:
            self.moves.append((space.name, rise))
            return True
        self.elements, self.found = kept[0], kept[1]
        return False


def _heeds(nesting: Nesting, space: Space, other: Space) -> bool:
    """Whether a space's gains change when another moves."""
    if space is other or space.name in {
        level.outer for level in nesting.within.get(other.name, ())
    }:
        return False
    return any(_meet(m, n, space.size, other.size) for m in space.members for n in other.members)


def _meet(one: Member, other: Member, size: int, other_size: int) -> bool:
    if one.tensor != other.tensor or (
        None not in (one.slab, other.slab) and one.slab != other.slab
    ):
        return False
    if (one.axis, one.slab) != (other.axis, other.slab):
        return True
    places = set(one.entries(size).ravel().tolist())
    return not places.isdisjoint(other.entries(other_size).ravel().tolist())
