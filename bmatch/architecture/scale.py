"""Spaces of a tiny model carried over to the tensors of the full one.

Lists of modules that have other lengths (layers, experts) are what differs: a tensor of the full
model is carried as those of the tiny model that stand at its place in such lists.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from bmatch.architecture.inner import inner_spaces
from bmatch.architecture.nesting import Nesting
from bmatch.architecture.spaces import Axes, Member, Part, Space, member_of

Shapes: TypeAlias = Mapping[str, Sequence[int]]
Key: TypeAlias = tuple[str, ...]
"""A name without the numbers of lists that differ."""


class Names:
    """The names of both models, and which numbers in them count what the models differ in."""

    def __init__(self, tiny: Iterable[str], full: Iterable[str]) -> None:
        self._tiny, self._full = self._lists(tiny), self._lists(full)

    @staticmethod
    def _lists(names: Iterable[str]) -> dict[str, set[str]]:
        lists: dict[str, set[str]] = defaultdict(set)
        for name in names:
            parts = name.split(".")
            for k, part in enumerate(parts):
                if part.isdigit():
                    lists[re.sub(r"\b\d+\b", "#", ".".join(parts[:k]))].add(part)
        return lists

    def split(self, name: str) -> tuple[Key, tuple[str, ...]]:
        """A name without the numbers that differ, and these numbers."""
        key, numbers = [], []
        parts = name.split(".")
        for k, part in enumerate(parts):
            place = re.sub(r"\b\d+\b", "#", ".".join(parts[:k]))
            if part.isdigit() and self._tiny.get(place) != self._full.get(place):
                key.append("#")
                numbers.append(part)
            else:
                key.append(part)
        return tuple(key), tuple(numbers)


def scaled(axes: Axes, tiny: Shapes, full: Shapes, blocks: Callable[[int], int | None]) -> Axes:
    """The spaces of a tiny model on the tensors of the full one.

    Parameters
    ----------
    axes : Axes
        Of the tiny model.
    tiny, full : mappings of str to shapes
        Their tensors by name.
    blocks : callable
        From a number of blocks in the tiny model (heads) to that of the full one, None where the
        configs do not tell it.

    Returns
    -------
    Axes
        `Axes.unmapped` names the spaces that could not be carried over.
    """
    names = Names(tiny, full)
    by_key: dict[Key, dict[tuple[str, ...], str]] = defaultdict(dict)
    for name in full:
        key, numbers = names.split(name)
        by_key[key][numbers] = name
    found: dict[tuple[Member, ...], Space] = {}  # each expert of the tiny model gives all anew
    taken: dict[str, int] = defaultdict(int)
    unmapped = []
    nesting = _nesting(axes)
    by_name = {space.name: space for space in axes.spaces}
    for space in axes.spaces:
        if _in_blocks(space, nesting, by_name):
            continue  # with the space that it lies in
        places = {names.split(member.tensor)[1] for member in space.members}
        try:
            if len(places) == 1 and space.name != "residual":
                copies = _local(space, names, by_key, tiny, full, blocks)
            else:
                copies = [_global(space, names, by_key, tiny, full, blocks)]
        except ValueError as reason:
            unmapped.append(f"{space.name}: {reason}")
            continue
        count = len(copies)
        for siblings in nesting.orbits.get(space.name, ()):
            inner = by_name[siblings[0]]
            if _in_blocks(inner, nesting, by_name):
                try:
                    copies += inner_spaces(inner, space, copies[:count], blocks)
                except ValueError as reason:
                    unmapped.append(f"{inner.name}: {reason}")
        for copy in copies:
            if copy.members not in found:
                taken[copy.name] += 1
                again = f" {taken[copy.name]}" if taken[copy.name] > 1 else ""
                found[copy.members] = replace(copy, name=copy.name + again)

    def in_full(given: Iterable[str]) -> tuple[str, ...]:
        keys = {names.split(name)[0] for name in given}
        return tuple(sorted(name for key in keys for name in by_key[key].values()))

    return replace(
        axes,
        spaces=tuple(found.values()),
        unread=in_full(axes.unread),
        alike=in_full(axes.alike),
        unmapped=tuple(unmapped),
    )


def _nesting(axes: Axes) -> Nesting:
    """What lies in what; nothing, where the proof left some units without what others hold."""
    try:
        return Nesting.of(axes)
    except ValueError:
        return Nesting({})


def _in_blocks(space: Space, nesting: Nesting, by_name: Mapping[str, Space]) -> bool:
    """Whether a space lies in a block along an axis of its tensors, and not in a slab."""
    within = nesting.within.get(space.name, ())
    return len(within) == 1 and all(
        m.slab is None and m.is_blocks for m in by_name[within[0].outer].members
    )


def _global(
    space: Space,
    names: Names,
    by_key: Mapping[Key, Mapping[tuple[str, ...], str]],
    tiny: Shapes,
    full: Shapes,
    blocks: Callable[[int], int | None],
) -> Space:
    """A space of all layers: each tensor is carried as all that stand at its place."""
    carried: dict[str, list[Member]] = defaultdict(list)
    for member in space.members:
        carried[member.tensor].append(replace(member, tensor=""))
    ways: dict[Key, list[Member]] = {}
    for name in tiny:
        way, key = carried.get(name, []), names.split(name)[0]
        if ways.setdefault(key, way) != way:
            raise ValueError(f"layers differ in how {'.'.join(key)} carries it")
    strange = [".".join(key) for key in by_key if key not in ways]
    if strange:
        raise ValueError(f"the tiny model has no {strange[0]}")
    first = {names.split(name)[0]: name for name in reversed(list(tiny))}
    pairs = [
        (replace(member, tensor=name), tiny[first[key]], full[name])
        for key, way in ways.items()
        for name in by_key.get(key, {}).values()
        for member in way
    ]
    return _resized(space, space.name, pairs, blocks)


def _local(
    space: Space,
    names: Names,
    by_key: Mapping[Key, Mapping[tuple[str, ...], str]],
    tiny: Shapes,
    full: Shapes,
    blocks: Callable[[int], int | None],
) -> list[Space]:
    """A space of one layer, or of one expert in it: one for each layer that has its tensors."""
    keys = [names.split(member.tensor)[0] for member in space.members]
    slabs = {member.slab for member in space.members} - {None}
    copies = []
    for numbers in by_key[keys[0]]:
        if not all(numbers in by_key[key] for key in keys):
            continue
        targets = [by_key[key][numbers] for key in keys]
        places = [None]
        if slabs:
            tensor = next(k for k, member in enumerate(space.members) if member.slab is not None)
            places = list(range(full[targets[tensor]][0]))  # type: ignore[arg-type]
        for slab in places:
            pairs = [
                (
                    replace(member, tensor=name, slab=None if member.slab is None else slab),
                    tiny[member.tensor],
                    full[name],
                )
                for member, name in zip(space.members, targets, strict=True)
            ]
            place = "" if slab is None else f" {slab}"
            title = _renamed(space.name, space.members[0].tensor, targets[0])
            copies.append(_resized(space, title + place, pairs, blocks))
    return copies


def _renamed(title: str, tiny: str, full: str) -> str:
    """The title of a space with the numbers of another layer."""
    place, _, kind = title.partition(" ")
    depth = len(place.split("."))
    return " ".join([".".join(full.split(".")[:depth]) if tiny.startswith(place) else place, kind])


def _resized(
    space: Space,
    title: str,
    pairs: Sequence[tuple[Member, Sequence[int], Sequence[int]]],
    blocks: Callable[[int], int | None],
) -> Space:
    lengths = [(m, old[m.axis], new[m.axis]) for m, old, new in pairs]
    whole = {new for m, old, new in lengths if old == space.size and m.offsets == (0,)}
    if len(whole) > 1:
        raise ValueError(f"its axes have {sorted(whole)} entries")
    size = whole.pop() if whole else blocks(space.size)
    if size is None:
        raise ValueError("how many blocks the full model has is not known")
    known: dict[int, set[int]] = defaultdict(set)
    for m, old, new in lengths:
        wide = _width(m, space.size, size, old, new)
        if wide is not None:
            known[m.strides[0]].add(wide)
    members = tuple(
        _member(m, space.size, size, old, new, known, blocks) for m, old, new in lengths
    )
    return Space(title, space.group, size, members)


def _parts(member: Member, units: int) -> tuple[Part, ...]:
    """What a space fills of an axis, one part after another from its start on."""
    parts = member.parts(units)
    if parts is None:
        raise ValueError(f"entries of a unit in {member.tensor} lie or flip apart")
    ends = [part.start + units * part.width for part in parts]
    if [part.start for part in parts] != [0, *ends[:-1]]:
        raise ValueError(f"{member.tensor} holds it beside others")
    return parts


def _width(member: Member, units: int, size: int, old: int, new: int) -> int | None:
    """Of a unit's blocks in the full model, where those of one width fill the axis; else None."""
    widths = [part.width for part in _parts(member, units)]
    if len(set(widths)) > 1 or units * sum(widths) != old:
        return None
    wide, rest = divmod(new, size * len(widths))
    if rest or (widths[0] == 1 and len(widths) > 1 and wide > 1):
        raise ValueError(f"{member.tensor} has {new} entries for {size} units")
    return wide


def _member(
    member: Member,
    units: int,
    size: int,
    old: int,
    new: int,
    known: Mapping[int, set[int]],
    blocks: Callable[[int], int | None],
) -> Member:
    """The same layout along a longer axis: parts (q, k and v in one), units, entries of a unit.

    Where blocks are of several widths (q beside k and v of fewer heads), or there is more along
    the axis (q beside one k and v), other tensors tell their widths in the full model.
    """
    parts = _parts(member, units)
    least = min(part.width for part in parts)
    alone = _width(member, units, size, old, new)
    if alone is not None:
        wide = {least: alone}
    else:
        wide = _widths(member, units, size, old, new, known)
        numbers = {width: blocks(units * width // least) for width in wide if width > least}
        if any(n is None or n * wide[least] != size * wide[w] for w, n in numbers.items()):
            raise ValueError(f"{member.tensor} has blocks of other widths than the config tells")
    found: list[Part] = []
    end = 0
    for part in parts:
        found.append(Part(end, wide[part.width], part.odd))
        end += size * wide[part.width]
    return member_of((member.tensor, member.axis, member.slab), found)


def _widths(
    member: Member, units: int, size: int, old: int, new: int, known: Mapping[int, set[int]]
) -> dict[int, int]:
    """Of a unit's blocks in the full model by those in the tiny one, and what else there is."""
    widths = [part.width for part in _parts(member, units)]
    wide = {w: min(known[w]) for w in widths if len(known.get(w, ())) == 1}
    unknown = [w for w in widths if w not in wide]
    rest, left = old - units * sum(widths), new - size * sum(wide.get(w, 0) for w in widths)
    if len(set(unknown)) > 1 or (unknown and rest):
        raise ValueError(f"{member.tensor} holds blocks of widths that are not known")
    if unknown:
        wide[unknown[0]], left = divmod(left, size * len(unknown))
    least = min(widths)  # what else there is has some blocks of that width
    if left * least != rest * wide[least] or rest % least:
        raise ValueError(f"{member.tensor} holds it beside others")
    return wide
