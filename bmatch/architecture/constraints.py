"""What a traced run demands of a gauge: which indices move together, and which signs cancel.

An *atom* is one index of one axis of one parameter. Operations tie atoms: two that meet entry by
entry carry one index (`Constraints.union`); where several meet one, as the dimensions of a head
meet their head, the relation is kept (`Constraints.relate`); what is summed over is a set that
has to stay a set, which gets an atom of its own, a block (`Constraints.block`); numbers that
differ along an axis tell its atoms apart (`Constraints.colour`).

Each atom also has an unknown sign. A *form* is a sum over GF(2) of such unknowns, named by a small
number (`Forms`), so that an array of forms is an array of integers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bmatch.architecture.forms import Forms, Ids, stretches

NONE = 0  # the atom of what moves with no parameter, and the form of what never flips
WILD = -1  # of entries that are zero: they agree with every atom and every form
_PLACE = -2  # in place of an axis
CHOSEN = 1 << 30  # added to atoms that lie where the run has put them: experts chosen for a token


@dataclass(frozen=True)
class Axis:
    """An axis of a parameter; of one slab of it where the parameter has slabs (`Labels`)."""

    parameter: str
    dim: int
    slab: int | None = None


def digest(*parts: bytes | int) -> int:
    """64 bits that stand for what was given."""
    text = b"|".join(p if isinstance(p, bytes) else str(p).encode() for p in parts)
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


class Constraints:
    """Atoms and forms with all that has been demanded of them."""

    def __init__(self) -> None:
        self.axes: list[Axis] = []
        self._parent = np.zeros(1, np.int64)
        self._axis = np.full(1, -1, np.int64)
        self._place = np.zeros(1, np.int64)
        self._colour = np.zeros(1, np.uint64)
        self.edges: dict[tuple[bytes, bytes], tuple[Ids, Ids]] = {}
        self._blocks: dict[bytes, int] = {}
        self._forms = Forms()
        self._equations: dict[int, tuple[int, int]] = {}  # equal forms, by the key of their sum
        self._by_atom: tuple[int, Ids, Ids] | None = None  # and how many equations it has

    # Atoms

    def new_axis(self, axis: Axis, size: int) -> Ids:
        """Atoms for the indices of an axis."""
        self.axes.append(axis)
        return self._new_atoms(np.full(size, len(self.axes) - 1), np.arange(size))

    def new_places(self, size: int) -> Ids:
        """Atoms of places that no gauge moves, each told apart from all others."""
        places = self._new_atoms(np.full(size, _PLACE), np.arange(size))
        self.fix(places)
        return places

    def are_places(self, atoms: Ids) -> bool:
        """Whether all of these atoms are such places."""
        return bool((self._axis[self.plain(atoms[atoms > 0])] == _PLACE).all())

    def _new_atoms(self, axis: Ids, place: Ids) -> Ids:
        first = len(self._parent)
        atoms = np.arange(first, first + len(axis))
        self._parent = np.concatenate([self._parent, atoms])
        self._axis = np.concatenate([self._axis, axis])
        self._place = np.concatenate([self._place, place])
        self._colour = np.concatenate([self._colour, np.zeros(len(axis), np.uint64)])
        return atoms

    @property
    def num_atoms(self) -> int:
        """Number of atoms, counting the one that stands for none."""
        return len(self._parent)

    def axis_of(self, atoms: Ids) -> Ids:
        """Positions in `axes`; below zero for blocks and places."""
        return self._axis[atoms]

    def place_of(self, atoms: Ids) -> Ids:
        """Index along their axis."""
        return self._place[atoms]

    def is_beside(self, one: Ids, other: Ids) -> bool:
        """Whether two atoms have one place along axes of one length."""
        a, b = int(self._axis[one.ravel()[0]]), int(self._axis[other.ravel()[0]])
        if min(a, b) < 0 or self._place[one.ravel()[0]] != self._place[other.ravel()[0]]:
            return False
        return a == b or int((self._axis == a).sum()) == int((self._axis == b).sum())

    def colour_of(self, atoms: Ids) -> npt.NDArray[np.uint64]:
        """What told the atoms apart, as numbers."""
        return self._colour[atoms]

    def find(self, atoms: Ids) -> Ids:
        """The representative of each atom's class; NONE, WILD and the mark of CHOSEN stay."""
        found = np.where(atoms > 0, atoms & ~CHOSEN, 0)
        while True:
            above = self._parent[found]
            if np.array_equal(above, found):
                return np.where(atoms > 0, found | (atoms & CHOSEN), atoms)
            self._parent[found] = self._parent[above]
            found = above

    @staticmethod
    def plain(atoms: Ids) -> Ids:
        """Without the mark of CHOSEN."""
        return np.where(atoms > 0, atoms & ~CHOSEN, atoms)

    def union(self, a: Ids, b: Ids) -> None:
        """The atoms of each pair carry one index."""
        for first, second in zip(self.find(a).tolist(), self.find(b).tolist(), strict=True):
            one, other = self._root(first), self._root(second)
            if one != other:
                self._parent[max(one, other)] = min(one, other)

    def _root(self, atom: int) -> int:
        while (above := int(self._parent[atom])) != atom:
            atom = above
        return atom

    def relate(self, a: Ids, b: Ids) -> None:
        """The relation that holds of these pairs has to hold of their images."""
        self.edges.setdefault((a.tobytes(), b.tobytes()), (a, b))

    def block(self, roots: Ids) -> int:
        """The atom of a set of atoms that has to stay a set; of a single one, itself."""
        if len(roots) == 1:
            return int(roots[0])
        key = roots.tobytes()
        if key not in self._blocks:
            atom = self._new_atoms(np.full(1, -1), np.zeros(1, np.int64))
            self._blocks[key] = int(atom[0])
            self.relate(roots, np.repeat(atom, len(roots)))
        return self._blocks[key]

    def colour(self, atoms: Ids, classes: npt.NDArray[np.uint64]) -> None:
        """Each atom met what its class stands for."""
        with np.errstate(over="ignore"):
            np.add.at(self._colour, atoms, classes)

    def fix(self, atoms: Ids) -> None:
        """None of these atoms moves or flips."""
        atoms = np.unique(atoms[atoms > 0])
        self.colour(atoms, np.array([digest(b"fixed", int(a)) for a in atoms], np.uint64))

    # Forms

    def form(self, atoms: Iterable[int]) -> int:
        """The number that names the sum of some atoms' unknowns."""
        return self._forms.of_set(atoms)

    def signs_of(self, atoms: Ids) -> Ids:
        """The forms that are the sign of one atom each."""
        return self._forms.of_atoms(atoms.ravel()).reshape(atoms.shape)

    def add(self, a: Ids, b: Ids) -> Ids:
        """Sum of two arrays of forms that broadcast; WILD where one is."""
        a, b = np.broadcast_arrays(a, b)
        pairs, inverse = np.unique(a * (1 << 32) + b, return_inverse=True)
        firsts, seconds = pairs_of(pairs)
        told = (firsts >= 0) & (seconds >= 0)
        sums = np.full(len(pairs), WILD)
        sums[told] = self._forms.sums(firsts[told], seconds[told])
        return sums[inverse].reshape(a.shape)

    def equate(self, a: Ids, b: Ids) -> None:
        """The forms of each pair are equal; WILD agrees with all."""
        a, b = np.broadcast_arrays(a, b)
        firsts, seconds = pairs_of(np.unique(a * (1 << 32) + b))
        told = (firsts != seconds) & (firsts >= 0) & (seconds >= 0)
        firsts, seconds = firsts[told], seconds[told]
        keys = self._forms.keys_of(firsts, seconds).tolist()
        pairs = zip(firsts.tolist(), seconds.tolist(), strict=True)
        self._equations.update(zip(keys, pairs, strict=True))

    @property
    def num_equations(self) -> int:
        """Number of equations, each of forms of which not all are the same."""
        return len(self._equations)

    def equations_of(self, atoms: Ids) -> tuple[Ids, Ids]:
        """The equations in which some atoms' unknowns stand.

        Parameters
        ----------
        atoms : int64 [atoms]
            Each once.

        Returns
        -------
        equations, places : int64 [found]
            Numbers of equations, and which of the atoms each has, one at a time.
        """
        if self._by_atom is None or self._by_atom[0] != self.num_equations:
            pairs = np.array(list(self._equations.values()), np.int64).reshape(-1, 2)
            equations, held = self._forms.members(pairs[:, 0], pairs[:, 1])
            order = np.argsort(held, kind="stable")
            self._by_atom = self.num_equations, equations[order], held[order]
        _, equations, held = self._by_atom
        starts = np.searchsorted(held, atoms)
        places, found = stretches(starts, np.searchsorted(held, atoms, side="right") - starts)
        return equations[found], places


def pairs_of(keys: Ids) -> tuple[Ids, Ids]:
    """The two numbers in each a * 2^32 + b, where b is at least -1."""
    firsts = (keys + 1) >> 32
    return firsts, keys - (firsts << 32)
