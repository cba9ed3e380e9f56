"""A check that moments moved with their weights, on what was written.

The table is not asked. What a weight did is read off the weight, before and after, and each of its
moments must have done the same: by plain indexing, on files that were opened anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations, product
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from bmatch.arrays import AnyArray
from bmatch.groups import Gauge
from bmatch.transport.slots import SLOTS

Read: TypeAlias = Callable[[str], torch.Tensor]
Axes: TypeAlias = tuple[tuple[int, bool], ...]

SAMPLE = 16
"""Parameters that are looked at, first and last among them."""


def require_moved(
    where: Path,
    weights: tuple[Read, Read],
    states: tuple[Read, Read],
    moments: Mapping[str, Mapping[str, str]],
    gauge: Gauge,
) -> None:
    """Refuse a state that did not move as the weights beside it did.

    Parameters
    ----------
    where : Path
        Where the state comes from, for the error.
    weights : pair of callable
        From the name of a parameter to its weight, before and after.
    states : pair of callable
        From what a moment is called to the moment, before and after.
    moments : mapping of str to mapping of str to str
        What the moments of parameters are called: by parameter, and then by slot.
    gauge : SignedPermutation

    Raises
    ------
    ValueError
        With the first parameter whose moments moved otherwise.
    """
    plain = gauge.to(None)
    order = plain.apply_permutation(np.arange(gauge.dim))
    sign = plain.apply(np.ones(gauge.dim))
    names = sorted(name for name, kept in moments.items() if kept)
    sample = np.unique(np.linspace(0, len(names) - 1, SAMPLE).astype(int)) if names else ()
    for name in (names[k] for k in sample):
        weight, then = (read(name) for read in weights)
        ways = [way for way in _ways(weight, gauge.dim) if _is(weight, then, way, order, sign)]
        for slot, path in moments[name].items():
            one, other = (read(path) for read in states)
            move, ndim = SLOTS[slot], weight.ndim
            ways = [w for w in ways if _is(one, other, move.along(ndim, w).axes, order, sign)]
        if not ways:
            told = ", ".join(moments[name])
            raise ValueError(
                f"{where}: {told} of {name} did not move as the weight did: nothing was written"
            )


def _ways(weight: torch.Tensor, dim: int) -> list[Axes]:
    """All that a weight may have done."""
    long = [axis for axis, length in enumerate(weight.shape) if length == dim]
    return [
        tuple(zip(axes, signed, strict=True))
        for count in range(len(long) + 1)
        for axes in combinations(long, count)
        for signed in product((True, False), repeat=count)
    ]


def _is(
    before: torch.Tensor, after: torch.Tensor, way: Axes, order: AnyArray, sign: AnyArray
) -> bool:
    """Whether one tensor is the other, moved along axes."""
    for axis, signed in way:
        before = before.index_select(axis, torch.from_numpy(order))
        if signed:
            turn = torch.from_numpy(sign).to(before.dtype)
            before = before * turn.view([-1, *[1] * (before.ndim - 1 - axis)])
    if before.dtype != after.dtype or before.shape != after.shape:
        return False
    same = (before == after) | (before.isnan() & after.isnan())  # a run may have diverged
    return bool(same.all())
