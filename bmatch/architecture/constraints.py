"""What a traced run demands of a gauge: which indices move together, and which signs cancel.

An *atom* is one index of one axis of one parameter. Operations tie atoms: two that meet entry by
entry carry one index (`Constraints.union`); where several meet one, as the dimensions of a head
meet their head, the relation is kept (`Constraints.relate`); what is summed over is a set that
has to stay a set, which gets an atom of its own, a block (`Constraints.block`); numbers that
differ along an axis tell its atoms apart (`Constraints.colour`).

Each atom also has an unknown sign. A *form* is a sum over GF(2) of such unknowns, held as the set
of their atoms and named by a small number, so that an array of forms is an array of integers.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Form: TypeAlias = frozenset[int]

NONE = 0  # the atom of what moves with no parameter, and the form of what never flips
WILD = -1  # of entries that are zero: they agree with every atom and every form
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
        self._forms: list[Form] = [frozenset()]
        self._form_ids: dict[Form, int] = {frozenset(): NONE}
        self.equations: set[Form] = set()
        self._by_atom: dict[int, list[Form]] = {}
        self._indexed = 0

    # Atoms

    def new_axis(self, axis: Axis, size: int) -> Ids:
        """Atoms for the indices of an axis."""
        self.axes.append(axis)
        return self._new_atoms(np.full(size, len(self.axes) - 1), np.arange(size))

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
        """Positions in `axes`; -1 for blocks."""
        return self._axis[atoms]

    def place_of(self, atoms: Ids) -> Ids:
        """Index along their axis."""
        return self._place[atoms]

    @property
    def met(self) -> set[int]:
        """Positions in `axes` of those of which an atom carries one index with another atom."""
        roots = self.find(np.arange(self.num_atoms))
        shared = np.bincount(roots, minlength=self.num_atoms)[roots] > 1
        return set(np.unique(self._axis[shared]).tolist())

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

    def form(self, atoms: Form) -> int:
        """The number that names the sum of some atoms' unknowns."""
        found = self._form_ids.setdefault(atoms, len(self._forms))
        if found == len(self._forms):
            self._forms.append(atoms)
        return found

    def signs_of(self, atoms: Ids) -> Ids:
        """The forms that are the sign of one atom each."""
        return np.array(
            [self.form(frozenset((a,))) for a in atoms.ravel().tolist()], np.int64
        ).reshape(atoms.shape)

    def add(self, a: Ids, b: Ids) -> Ids:
        """Sum of two arrays of forms that broadcast; WILD where one is."""
        a, b = np.broadcast_arrays(a, b)
        pairs, inverse = np.unique(a * (1 << 32) + b, return_inverse=True)
        firsts, seconds = pairs_of(pairs)
        sums = [
            WILD if min(one, other) < 0 else self.form(self._forms[one] ^ self._forms[other])
            for one, other in zip(firsts.tolist(), seconds.tolist(), strict=True)
        ]
        return np.array(sums, np.int64)[inverse].reshape(a.shape)

    def equate(self, a: Ids, b: Ids) -> None:
        """The forms of each pair are equal; WILD agrees with all."""
        a, b = np.broadcast_arrays(a, b)
        firsts, seconds = pairs_of(np.unique(a * (1 << 32) + b))
        for one, other in zip(firsts.tolist(), seconds.tolist(), strict=True):
            if one != other and min(one, other) >= 0:
                self.equations.add(self._forms[one] ^ self._forms[other])

    def equations_of(self, atoms: Iterable[int]) -> set[Form]:
        """The equations in which any of these atoms' unknowns stand."""
        if self._indexed != len(self.equations):
            self._indexed, self._by_atom = len(self.equations), defaultdict(list)
            for equation in self.equations:
                for atom in equation:
                    self._by_atom[atom].append(equation)
        return {equation for atom in atoms for equation in self._by_atom.get(atom, ())}


def pairs_of(keys: Ids) -> tuple[Ids, Ids]:
    """The two numbers in each a * 2^32 + b, where b is at least -1."""
    firsts = (keys + 1) >> 32
    return firsts, keys - (firsts << 32)
