"""A check that moments moved with their weights, on what was written.

The table is not asked. What a weight did is read off the weight, before and after, and each of its
moments must have done the same: by plain indexing, on files that were opened anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations, product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from bmatch.groups import Gauge
from bmatch.transport.slots import SLOTS

Read: TypeAlias = Callable[[str], torch.Tensor]
Axes: TypeAlias = tuple[tuple[int, bool], ...]

SAMPLE = 16
"""Parameters that are looked at, first and last among them."""


def require_moved(
    where: Path,
    weights: tuple[Read, Read],
    states: tuple[Mapping[str, Any], Mapping[str, Any]],
    keys: Mapping[str, str],
    gauge: Gauge,
) -> None:
    """Refuse a state that did not move as the weights beside it did.

    Parameters
    ----------
    where : Path
        What the state is called.
    weights : pair of callable
        From the name of a parameter to its weight, before and after.
    states : pair of mapping of str to tensor
        By names like ``state/0/exp_avg``, before and after.
    keys : mapping of str to str
        From the names of parameters to what they are called in the states.
    gauge : SignedPermutation

    Raises
    ------
    ValueError
        With the first parameter whose moments moved otherwise.
    """
    plain = gauge.to(None)
    order = torch.from_numpy(
        np.abs(plain.apply(np.arange(1.0, gauge.dim + 1))).astype(np.int64) - 1
    )
    sign = torch.from_numpy(plain.apply(np.ones(gauge.dim)))
    names = sorted(keys)
    chosen = {names[k] for k in np.linspace(0, len(names) - 1, SAMPLE).astype(int)}
    for name in sorted(chosen):
        slots = {
            slot: tuple(state[f"state/{keys[name]}/{slot}"] for state in states)
            for slot in SLOTS
            if f"state/{keys[name]}/{slot}" in states[0]
        }
        before, after = (read(name) for read in weights)
        ways = [way for way in _ways(before, gauge.dim) if _is(before, after, way, order, sign)]
        if not any(
            all(
                _is(*pair, SLOTS[slot].along(before.ndim, way).axes, order, sign)
                for slot, pair in slots.items()
            )
            for way in ways
        ):
            raise ValueError(
                f"{where}: {', '.join(slots)} of {name} did not move as the weight did: nothing "
                "was written"
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
    before: torch.Tensor, after: torch.Tensor, way: Axes, order: torch.Tensor, sign: torch.Tensor
) -> bool:
    for axis, signed in way:
        before = before.index_select(axis, order)
        if signed:
            before = before * sign.to(before.dtype).view(*[-1, *[1] * (before.ndim - 1 - axis)])
    return before.dtype == after.dtype and torch.equal(before, after)
