"""Evidence for units in which other spaces lie: invariant to those, which are not known yet.

How the rows of a unit are ordered and signed does not show in their Gram matrix. Random directions,
the same for both networks, keep it small; the mean over the units is taken away, since what units
have in common tells none from another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bmatch.architecture.spaces import Member, Space
from bmatch.network.gains import Gains
from bmatch.network.pair import Carrier, Elements, Tensors, unit_rows

DIRECTIONS = 64


@dataclass(frozen=True)
class _Layout:
    """How a tensor is cut into units, rows that inner spaces move, and what a row consists of."""

    member: Member
    rows: int | None  # the axis of the rows; None for the entries of a unit
    moved: torch.Tensor  # bool, for each row


def add_outer_gains(
    gains: Gains,
    space: Space,
    inner: dict[str, Space],
    names: list[str],
    tensors: Tensors,
    carrier: Carrier,
    elements: Elements,
) -> None:
    """Count the evidence of tensors for the units of a space that has others in its units.

    Rows that none of those moves count by their products, and the others by their prints.
    """
    for name in names:
        held = {space.name, *inner}
        b = carrier.carried(name, tensors.source[name], elements, without=held)
        for layout in _layouts(space, inner, name, tensors.target[name].shape):
            pair = [_rows(t, layout, space.size) for t in (tensors.target[name], b)]
            _add(gains, pair[0], pair[1], layout, tensors.weight[name])


def _layouts(space: Space, inner: dict[str, Space], name: str, shape: torch.Size) -> list[_Layout]:
    """One for each member in a tensor whose rows can be told; none where two axes are moved."""
    layouts = []
    for member in space.members:
        if member.tensor != name:
            continue
        within = [(s, m) for s in inner.values() for m in s.members if m.tensor == name]
        axes = {m.axis for _, m in within}
        if not within:
            rows, moved = None, torch.zeros(len(member.offsets), dtype=torch.bool)
        elif axes == {member.axis}:
            places = member.entries(space.size)
            touched = np.concatenate([m.entries(s.size).ravel() for s, m in within])
            rows, moved = None, torch.as_tensor(np.isin(places, touched).any(axis=0))
        elif len(axes) == 1 and len(member.offsets) == 1:
            rows = axes.pop()
            moved = torch.zeros(shape[rows], dtype=torch.bool)
            for s, m in within:
                moved[torch.as_tensor(m.entries(s.size)).ravel()] = True
        else:
            continue
        layouts.append(_Layout(member, rows, moved))
    return layouts


def _rows(tensor: torch.Tensor, layout: _Layout, size: int) -> torch.Tensor:
    """``[size, rows, rest]``"""
    member = layout.member
    if layout.rows is None:
        return unit_rows(tensor, member.axis, member, size)
    moved = tensor.movedim((member.axis, layout.rows), (0, 1))
    places = torch.as_tensor(member.entries(size)).ravel()
    return moved.index_select(0, places).flatten(2) if moved.ndim > 2 else moved[places, :, None]


def _add(gains: Gains, a: torch.Tensor, b: torch.Tensor, layout: _Layout, weight: float) -> None:
    """Count units ``[size, rows, rest]`` of target and source."""
    still = ~layout.moved
    if layout.rows is None:
        odd = torch.tensor(layout.member.odd)
    else:
        odd = torch.full_like(still, layout.member.odd[0])
    for flips in (False, True):
        rows = still & (odd == flips)
        if rows.any():
            gains.add(a[:, rows].flatten(1), b[:, rows].flatten(1), flips, weight)
    if layout.moved.any():
        prints = [_prints(t[:, layout.moved]) for t in (a, b)]
        entries = a[:, layout.moved].numel()
        gains.entries += entries
        gains.add_products(prints[0], prints[1], False, entries / len(a))


def _prints(units: torch.Tensor) -> torch.Tensor:
    """Gram matrices of units' rows ``[size, rows, rest]``, along few directions, of norm 1."""
    rest = units.shape[2]
    if rest > DIRECTIONS:
        generator = torch.Generator().manual_seed(0)
        directions = torch.randn(rest, DIRECTIONS, generator=generator)
        units = units @ directions
    grams = (units.transpose(1, 2) @ units).flatten(1)
    grams = grams - grams.mean(0)
    result: torch.Tensor = grams / grams.norm(dim=1, keepdim=True).clamp_min(1e-30)
    return result
