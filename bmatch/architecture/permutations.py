"""Spaces: sets of units that a gauge may permute freely, read off the constraints.

Classes of atoms are the nodes of a graph, what is known of them its colours and edges. Units can
be permuted freely if every two can be exchanged: if exchanging one node of each, with all that
this forces, leaves the graph as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from bmatch.architecture.constraints import Constraints, digest
from bmatch.architecture.forms import Ids, mixed

Unit: TypeAlias = tuple[int, ...]
"""Nodes that move together, in an order that all units of a space share."""


@dataclass(frozen=True)
class Slots:
    """The atoms of the units of one space.

    Attributes
    ----------
    axes : tuple of int
        The axis of each slot, a position in `Constraints.axes`; a unit may have several of one.
    atoms : int64 [units, slots]
    nodes : int
        How many classes of atoms a unit has: one is a coordinate, several a block.
    """

    axes: tuple[int, ...]
    atoms: Ids
    nodes: int


class Graph:
    """Classes of atoms, their colours and the relations between them."""

    def __init__(self, c: Constraints) -> None:
        self._c = c
        atoms = np.arange(1, c.num_atoms)
        roots, node = np.unique(c.find(atoms), return_inverse=True)
        self.size = len(roots)
        self._node = np.concatenate([[-1], node])
        self.atoms: list[list[int]] = [[] for _ in range(self.size)]
        rank = np.zeros(c.num_atoms, np.int64)
        axes = c.axis_of(np.arange(c.num_atoms))
        counts: dict[tuple[int, int], int] = defaultdict(int)
        order = np.lexsort((c.place_of(atoms), c.axis_of(atoms)))
        for atom in atoms[order].tolist():
            home, axis = int(self._node[atom]), int(axes[atom])
            if axis >= 0:
                self.atoms[home].append(atom)
                rank[atom] = counts[home, axis]
                counts[home, axis] += 1
        self._kind = np.array(
            [digest(self._axis_kind(int(axes[a])), int(rank[a])) for a in range(c.num_atoms)],
            np.uint64,
        )
        self.neighbours: list[dict[int, set[int]]] = [defaultdict(set) for _ in range(self.size)]
        sources, targets, kinds = self._edges()
        for source, target, kind in zip(
            sources.tolist(), targets.tolist(), kinds.tolist(), strict=True
        ):
            self.neighbours[source][kind].add(target)
        self.colours = self._refined(sources, targets, kinds)

    def _axis_kind(self, axis: int) -> bytes:
        """Slabs of one parameter are of one kind: experts may be exchanged."""
        if axis < 0:
            return b"block"
        found = self._c.axes[axis]
        return f"{found.parameter} {found.dim} {found.slab is None}".encode()

    def _edges(self) -> tuple[Ids, Ids, npt.NDArray[np.uint64]]:
        sources, targets, kinds = [], [], []
        for a, b in self._c.edges.values():
            a, b = self._c.plain(a), self._c.plain(b)
            one, other = self._node[a], self._node[b]
            for near, far, first, second in ((one, other, a, b), (other, one, b, a)):
                pairs, inverse = np.unique(
                    np.stack([self._kind[first], self._kind[second]]), axis=1, return_inverse=True
                )
                named = [digest(int(p), int(q), int(near is one)) for p, q in pairs.T]
                sources.append(near)
                targets.append(far)
                kinds.append(np.array(named, np.uint64)[inverse.ravel()])
        if not sources:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint64)
        rows = np.stack([np.concatenate(sources), np.concatenate(targets)]).astype(np.uint64)
        unique = np.unique(np.vstack([rows, np.concatenate(kinds)[None]]), axis=1)
        return unique[0].astype(np.int64), unique[1].astype(np.int64), unique[2]

    def _refined(
        self, sources: Ids, targets: Ids, kinds: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.uint64]:
        """Colours that tell nodes apart by what surrounds them, to any distance."""
        c = self._c
        colours = np.zeros(self.size, np.uint64)
        atoms = np.arange(1, c.num_atoms)
        with np.errstate(over="ignore"):
            np.add.at(colours, self._node[atoms], mixed(self._kind[atoms] ^ c.colour_of(atoms)))
            classes = 0
            while (found := len(np.unique(colours))) != classes:
                classes = found
                met = np.zeros(self.size, np.uint64)
                np.add.at(met, sources, mixed(mixed(colours[targets]) + kinds))
                colours = mixed(colours + mixed(met))
        return colours

    def exchange(
        self, a: int, b: int, beside: Set[int] = frozenset()
    ) -> list[tuple[int, int]] | None:
        """The smallest exchange of two nodes that leaves the graph as it is, None if none does.

        None, too, if it forces an exchange of a node that it has to leave `beside`.
        """
        image = {a: b, b: a}
        pairs = [(a, b)]
        for x, y in pairs:  # grows as it goes
            if self.colours[x] != self.colours[y]:
                return None
            near, far = self.neighbours[x], self.neighbours[y]
            if near.keys() != far.keys():
                return None
            for kind, here in near.items():
                there = far[kind]
                if here == there:
                    continue
                only_here, only_there = here - there, there - here
                if len(only_here) != len(only_there):
                    return None
                free_here = sorted(n for n in only_here if n not in image)
                free_there = sorted(n for n in only_there if n not in image)
                if len(free_here) != len(free_there):
                    return None
                free_here.sort(key=lambda n: int(self.colours[n]))
                free_there.sort(key=lambda n: int(self.colours[n]))
                for p, q in zip(free_here, free_there, strict=True):
                    if p in image or q in image:
                        return None
                    if p in beside or q in beside:
                        return None
                    image[p], image[q] = q, p
                    pairs.append((p, q))
        for x, y in image.items():
            far = self.neighbours[y]
            for kind, here in self.neighbours[x].items():
                if {image.get(n, n) for n in here} != far[kind]:
                    return None
        return pairs


def spaces(c: Constraints) -> list[Slots]:
    """All spaces of two units or more that hold indices of parameters."""
    with np.errstate(over="ignore"):
        graph = Graph(c)
    # What no operation has met is left out: rows of a table beyond the run's positions.
    cells: dict[int, list[int]] = defaultdict(list)
    for node in range(graph.size):
        if len(graph.atoms[node]) > 1 or (graph.atoms[node] and graph.neighbours[node]):
            cells[int(graph.colours[node])].append(node)
    found: dict[frozenset[frozenset[int]], list[Unit]] = {}
    homes: dict[int, dict[int, int]] = defaultdict(dict)  # of nodes: the unit, by the space found
    for cell in cells.values():
        done: set[int] = set()
        for k, first in enumerate(cell[:-1]):
            if first in done:
                continue
            stars: dict[frozenset[int], list[Unit]] = {}
            taken: dict[frozenset[int], set[int]] = {}
            images: list[int] = []
            for second in cell[k + 1 :]:
                # What exchanges nodes of two units exchanges the units, which is known.
                known = any(homes[second].get(s, u) != u for s, u in homes[first].items())
                pairs = None if known or second in done else graph.exchange(first, second)
                if pairs is None:
                    continue
                images.append(second)
                to_other = dict(pairs)
                mine = frozenset(to_other)
                units = stars.setdefault(mine, [tuple(to_other)])
                used = taken.setdefault(mine, set(mine))
                if used.isdisjoint(to_other.values()):
                    units.append(tuple(to_other[node] for node in units[0]))
                    used.update(to_other.values())
            simple = [units for units in stars.values() if _is_simple(graph, *units[:2])]
            for units in simple:
                key = frozenset(map(frozenset, units))
                if not any(key <= other for other in found):
                    for number, unit in enumerate(units):
                        for node in unit:
                            homes[node][len(found)] = number
                    found[key] = units
            if simple:
                smallest = min(simple, key=lambda units: len(units[0]))
                done.update(node for unit in smallest for node in unit)
            else:  # nor is there a simple one of the nodes that it can be exchanged with
                done.update(images)
    slots = [_slots(c, graph, units) for units in found.values()]
    return [space for space in slots if space is not None]


def _is_simple(graph: Graph, one: Unit, other: Unit) -> bool:
    """Whether no part of an exchange is an exchange: heads, but not a head and a dimension."""
    one_of_each = {int(graph.colours[x]): (x, y) for x, y in zip(one, other, strict=True)}
    whole: set[int] = set()  # nodes whose exchange is that of the unit: what forces one of them is
    for x, y in one_of_each.values():
        alone = graph.exchange(x, y, whole)
        if alone is not None and len(alone) < len(one):
            return False
        whole |= {x, y}
    return True


def _slots(c: Constraints, graph: Graph, units: list[Unit]) -> Slots | None:
    """The atoms of each unit, but for those inside of a slab that moves as a whole."""
    rows = []
    for unit in units:
        atoms = [atom for node in unit for atom in graph.atoms[node]]
        axes = [c.axes[int(axis)] for axis in c.axis_of(np.array(atoms))]
        slabs = {
            (axis.parameter, int(c.place_of(np.array([atom]))[0]))
            for axis, atom in zip(axes, atoms, strict=True)
            if axis.dim == 0 and axis.slab is None
        }
        rows.append(
            [
                atom
                for axis, atom in zip(axes, atoms, strict=True)
                if axis.slab is None or (axis.parameter, axis.slab) not in slabs
            ]
        )
    kept = np.array(rows)
    axes_of = c.axis_of(kept)
    if not (axes_of == axes_of[0]).all():
        return None
    order = np.lexsort((c.place_of(kept[0]), axes_of[0]))
    kept = kept[np.argsort(c.place_of(kept)[:, order[0]])][:, order]
    return Slots(tuple(axes_of[0, order].tolist()), kept, len(units[0]))
