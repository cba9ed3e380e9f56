"""Where a long stream of batches is cut, so that its sum does not know who read which part.

Sums in floating point go by their order. Each stretch of batches has moments of its own, made from
nothing, and these are added up from the first stretch to the last: by one process or by several,
today or after an interruption, that is the same sum to the bit. Where the cuts are goes by the
batches alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

LEAST = 16
"""Fewer batches are one stretch."""
USUAL = 32
"""Stretches, where there are so many batches."""
LONGEST = 1 << 16
"""Token ids of a stretch at most, unless one batch has more: what a job that is ended can lose."""


def stretches(sizes: Sequence[int]) -> list[range]:
    """The numbers of the batches in each stretch.

    Parameters
    ----------
    sizes : sequence of int
        Token ids of each batch.
    """
    count = len(sizes)
    if count < LEAST:
        return [range(count)]
    each = max(1, min(count // USUAL, LONGEST // max(1, *sizes)))
    cuts = [*range(0, count, each), count]
    return [range(a, b) for a, b in pairwise(cuts)]


def block_ends(count: int) -> set[int]:
    """After which of `count` stretches a block of tokens ends: from 16 to 31 blocks."""
    every = max(1, count // LEAST)
    return {*range(every, count + 1, every), count}
