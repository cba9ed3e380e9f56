"""Spaces in the units of others, carried over to the sizes of the full model.

The query heads of a group, the coordinates of a head: the tiny model has them in each of its units,
and the full model has more units, and more entries in each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bmatch.architecture.spaces import Member, Space


class _Part(NamedTuple):
    """Where an inner space lies in a part (q, k or v) of an outer unit's entries along an axis."""

    outer: int  # number of the outer space's member
    part: int
    blocks: bool  # a unit is a block of entries, and not every so-many-th one
    whole: bool  # a unit is one entry, and all entries are units
    odd: bool


def inner_spaces(
    inner: Space,
    outer: Space,
    copies: Sequence[Space],
    blocks: Callable[[int], int | None],
) -> list[Space]:
    """The spaces of the full model that lie in its units as one does in a tiny model's first unit.

    Parameters
    ----------
    inner, outer : Space
        Of the tiny model; the one lies in unit 0 of the other.
    copies : sequence of Space
        The outer space in each layer of the full model, its members in the same order.
    blocks : callable
        From a number of blocks in the tiny model (heads) to that of the full one, None where the
        configs do not tell it.

    Raises
    ------
    ValueError
        If the inner space lies in another way than blocks or entries that recur.
    """
    parts = _parts(inner, outer)
    if any(len(copy.members) != len(outer.members) for copy in copies):
        raise ValueError(f"{outer.name} is a space of all layers")
    found = []
    for copy in copies:
        held = [m.parts(copy.size) or () for m in copy.members]
        wide = [held[p.outer][p.part].width for p in parts]
        sizes = {width for p, width in zip(parts, wide, strict=True) if p.whole}
        if not sizes:
            count = blocks(inner.size * outer.size)
            if count is None:
                raise ValueError("how many blocks the full model has is not known")
            sizes = {count // copy.size}
        if len(sizes) > 1 or any(width % min(sizes) for width in wide) or min(sizes) < 2:
            raise ValueError(f"its axes have {sorted(sizes)} entries")
        size = sizes.pop()
        for unit in range(copy.size):
            members = tuple(_members(parts, copy, unit, size))
            kind = "blocks" if any(p.blocks for p in parts) else "coordinates"
            found.append(Space(f"{copy.name} {unit} {kind}", inner.group, size, members))
    return found


def _parts(inner: Space, outer: Space) -> list[_Part]:
    """How the inner space lies in the outer one's unit 0."""
    parts = []
    for m in inner.members:
        number, holder = next(
            (k, o)
            for k, o in enumerate(outer.members)
            if (o.tensor, o.axis, o.slab) == (m.tensor, m.axis, m.slab)
        )
        places = m.entries(inner.size)  # [size, entries of a unit]
        for part, (start, width, _) in enumerate(holder.parts(outer.size) or ()):
            within = (start <= places[0]) & (places[0] < start + outer.size * width)
            columns = np.flatnonzero(within)
            if len(columns):
                odd = {m.odd[column] for column in columns}
                as_blocks = _as_blocks(places[:, columns] - start, width)
                if len(odd) > 1 or as_blocks is None:
                    raise ValueError(f"{m.tensor} holds it in a way that is not known")
                parts.append(_Part(number, part, as_blocks, inner.size == width, odd.pop()))
    return parts


def _as_blocks(local: npt.NDArray[np.int64], width: int) -> bool | None:
    """Whether ``[size, entries]`` in `width` are blocks or recur; None if neither."""
    size, entries = local.shape
    if size * entries != width:
        return None
    every = np.arange(width)
    if np.array_equal(local, every.reshape(entries, size).T):
        return False
    return True if np.array_equal(local, every.reshape(size, entries)) else None


def _members(parts: Sequence[_Part], copy: Space, unit: int, size: int) -> list[Member]:
    """One for each axis of a tensor, in unit `unit` of the full model's outer space."""
    by_axis: Mapping[int, list[_Part]] = {
        p.outer: [q for q in parts if q.outer == p.outer] for p in parts
    }
    members = []
    for number, own in by_axis.items():
        holder = copy.members[number]
        held = holder.parts(copy.size) or ()
        offsets: list[int] = []
        strides: list[int] = []
        odd: list[bool] = []
        for p in own:
            start, width, _ = held[p.part]
            entries = width // size
            base = start + unit * width
            offsets += [base + k * (1 if p.blocks else size) for k in range(entries)]
            strides += [entries if p.blocks else 1] * entries
            odd += [p.odd] * entries
        place = holder.tensor, holder.axis, holder.slab
        members.append(Member(*place, tuple(strides), tuple(offsets), tuple(odd)))
    return members
