"""Sums over GF(2) of unknown signs, each named by a small number.

An array of sums is then an array of integers. The unknowns are those of atoms, and a sum is the set
of its atoms; sums of many pairs at once are found by numpy, with one look into a table for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Ids: TypeAlias = npt.NDArray[np.int64]
Keys: TypeAlias = npt.NDArray[np.uint64]


def mixed(values: Keys) -> Keys:
    """Each number scattered over 64 bits (the finaliser of SplitMix64)."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class _Growing:
    """An array that is appended to: room for twice as much whenever it is full."""

    def __init__(self, first: npt.NDArray[Any]) -> None:
        self._held = first.copy()
        self._count = len(first)

    def __len__(self) -> int:
        return self._count

    @property
    def array(self) -> npt.NDArray[Any]:
        """What was appended so far."""
        return self._held[: self._count]

    def append(self, more: npt.NDArray[Any]) -> None:
        """Put entries at the end."""
        count = self._count + len(more)
        if count > len(self._held):
            self._held = np.resize(self._held, 2 * count)
        self._held[self._count : count] = more
        self._count = count


class Forms:
    """Sums of unknowns by number; 0 is the empty sum.

    Two sums are one where the keys of their atoms sum to one number of 64 bits, as colours are
    (`digest`): of a million sums two are taken for one with a chance of 3e-8.
    """

    def __init__(self) -> None:
        self._numbers = {0: 0}  # by key
        self._keys = _Growing(np.zeros(1, np.uint64))
        self._ends = _Growing(np.zeros(1, np.int64))  # of each sum's stretch of
        self._atoms = _Growing(np.zeros(0, np.int64))

    def of_atoms(self, atoms: Ids) -> Ids:
        """The sums that are the unknown of one atom each: int64 [atoms]."""
        keys = mixed(atoms.astype(np.uint64))
        return self._named(keys, lambda new: (np.arange(len(new)), atoms[new]))

    def of_set(self, atoms: Iterable[int]) -> int:
        """The sum of some atoms' unknowns, each once."""
        members = np.array(sorted(set(atoms)), np.int64)
        key = np.bitwise_xor.reduce(mixed(members.astype(np.uint64)), initial=np.uint64(0))
        return int(self._named(np.array([key]), lambda _: (0 * members, members))[0])

    def sums(self, firsts: Ids, seconds: Ids) -> Ids:
        """The number of each pair's sum: int64 [pairs]."""
        keys = self.keys_of(firsts, seconds)
        return self._named(keys, lambda new: self.members(firsts[new], seconds[new]))

    def keys_of(self, firsts: Ids, seconds: Ids) -> Keys:
        """What stands for each pair's sum, also where that has no number: uint64 [pairs]."""
        keys: Keys = self._keys.array[firsts] ^ self._keys.array[seconds]
        return keys

    def members(self, firsts: Ids, seconds: Ids) -> tuple[Ids, Ids]:
        """The atoms of pairs' sums, one after another: the position of the pair, and the atom."""
        ends = self._ends.array
        found = []
        for numbers in (firsts, seconds):
            starts = ends[np.maximum(numbers - 1, 0)]
            found.append(stretches(starts, ends[numbers] - starts))
        pairs = np.concatenate([pair for pair, _ in found])
        atoms = self._atoms.array[np.concatenate([place for _, place in found])]
        both = np.sort(pairs << 32 | atoms)
        once = np.ones(len(both), bool)  # what both of a pair have cancels
        alike = both[1:] == both[:-1]
        once[1:] &= ~alike
        once[:-1] &= ~alike
        return both[once] >> 32, both[once] & (1 << 32) - 1

    def _named(self, keys: Keys, members: Callable[[Ids], tuple[Ids, Ids]]) -> Ids:
        """The numbers of sums; those that are new get the next ones, and the members of these."""
        known = self._numbers
        numbers, new = [], []
        for place, key in enumerate(keys.tolist()):
            count = len(known)
            number = known.setdefault(key, count)
            if number == count:
                new.append(place)
            numbers.append(number)
        if new:
            rows, atoms = members(np.array(new))
            counts = np.bincount(rows, minlength=len(new))
            self._ends.append(len(self._atoms) + np.cumsum(counts))
            self._atoms.append(atoms)
            self._keys.append(keys[new])
        return np.array(numbers, np.int64)


def stretches(starts: Ids, lengths: Ids) -> tuple[Ids, Ids]:
    """All places in some stretches, one after another: the number of the stretch, and the place."""
    numbers = np.repeat(np.arange(len(lengths)), lengths)
    shift = starts - (np.cumsum(lengths) - lengths)
    return numbers, np.arange(len(numbers)) + shift[numbers]
