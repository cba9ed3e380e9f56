"""Signs: which axes of a space flip with it, by linear algebra over GF(2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bmatch.architecture.constraints import Constraints
from bmatch.architecture.permutations import Slots
from bmatch.groups import Group


def odd_slots(
    c: Constraints, space: Slots, gains: frozenset[int]
) -> tuple[Group, tuple[bool, ...]]:
    """The group of a space, and which of its slots flip with a unit.

    A unit flips alone in B_n; all flip at once in S_n x {+1, -1}; none in S_n. A gain and the
    matrix that reads after it could flip together: gains stay as they are where they can.

    Parameters
    ----------
    c : Constraints
    space : Slots
    gains : frozenset of int
        Positions of slots that hold gains.
    """
    alone, together = _flips(c, space)
    count = space.atoms.shape[1]
    plain = [1 << gain for gain in sorted(gains)]
    every = (1 << count) - 1 - sum(plain)
    odd = _widest([*alone, *plain], count, every, block=space.nodes > 1)
    group: Group = "signed_permutation"
    if not odd:
        odd = _widest([*together, *plain], count, every, block=space.nodes > 1)
        group = "permutation_global_sign"
        if space.nodes == 1 and not odd & every & -every:
            # What the first does not heed may be no sign of the space: that of a sublayer between
            # two norms, or all rows and all columns of one matrix, which moves nothing.
            first = _through_gains(sorted(together), count, gains)
            few = 2 * (odd & every).bit_count() <= every.bit_count()
            odd = first or (0 if few else odd)
    if not odd:
        return "permutation", (False,) * count
    return group, tuple(bool(odd >> slot & 1) for slot in range(count))


def _flips(c: Constraints, space: Slots) -> tuple[list[int], list[int]]:
    """The slots of a unit that have to flip evenly: each unit by itself, and all with one sign.

    Bit sets, each once.
    """
    units, slots = space.atoms.shape
    equations, places = c.equations_of(space.atoms.ravel())
    unit, slot = np.divmod(places, slots)
    order = np.argsort(equations * units + unit, kind="stable")
    equations, unit, slot = equations[order], unit[order], slot[order]
    bits = np.zeros((len(order), -(-slots // 64)), np.uint64)
    bits[np.arange(len(order)), slot // 64] = np.uint64(1) << (slot % 64).astype(np.uint64)
    found = []
    for numbers in (equations * units + unit, equations):
        first = np.flatnonzero(np.diff(numbers, prepend=-1))
        sums = np.bitwise_xor.reduceat(bits, first, axis=0) if len(first) else bits
        sums = sums[np.lexsort(sums.T)]
        rows = sums[np.append(True, (sums[1:] != sums[:-1]).any(axis=1))[: len(sums)]]
        found.append([int.from_bytes(row.tobytes(), "little") for row in rows.astype("<u8")])
    return found[0], found[1]


def _widest(equations: Sequence[int], count: int, every: int, block: bool) -> int:
    """The solution that flips most slots, zero if there is none; `every` slot if that is one.

    A block whose parts flip apart, as the dimensions of a head do, has no sign of its own.
    """
    if not block and all((row & every).bit_count() % 2 == 0 for row in equations):
        return every
    found = [0]
    for vector in _solutions(equations, count)[:6]:
        found += [other ^ vector for other in found]
    if block and any(a & b == 0 for a in found for b in found if a and b):
        return 0
    return max(found, key=lambda bits: (bits.bit_count(), -bits))


def _through_gains(equations: list[int], count: int, gains: frozenset[int]) -> int:
    """A solution that flips the first slot that is no gain, and few gains; zero if there is none.

    Where tied weights read what a norm of their own wrote, the norm's gains flip with them. A
    solution that flips less than half of the space is a gain and its readers, and no sign of it.
    """
    others = [slot for slot in range(count) if slot not in gains]

    def solved(rows: list[int]) -> int:
        basis = _solutions(rows, count)
        return next((vector for vector in basis if vector >> others[0] & 1), 0)

    odd = solved(equations) if others else 0
    for gain in sorted(gains):
        fewer = solved([*equations, 1 << gain]) if odd else 0
        if fewer:
            equations, odd = [*equations, 1 << gain], fewer
    flipped = sum(odd >> slot & 1 for slot in others)
    return odd if 2 * flipped > len(others) else 0


def _solutions(rows: Sequence[int], count: int) -> list[int]:
    """A basis of the vectors whose overlap with every row is even."""
    pivots: dict[int, int] = {}  # by their highest bit
    for row in rows:
        for high, pivot in pivots.items():
            if row >> high & 1:
                row ^= pivot
        if row:
            high = row.bit_length() - 1
            for other in pivots:
                if pivots[other] >> high & 1:
                    pivots[other] ^= row
            pivots[high] = row
    basis = []
    for free in range(count):
        if free not in pivots:
            vector = 1 << free
            for high, pivot in pivots.items():
                if pivot >> free & 1:
                    vector |= 1 << high
            basis.append(vector)
    return basis
