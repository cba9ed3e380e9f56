"""From spaces of a traced model to rules: what tensors of one kind have in common."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeAlias

from bmatch.architecture.layout import Piece, Word, stream
from bmatch.architecture.rules import RESIDUAL, Kind, Rule
from bmatch.architecture.spaces import Axes, Member, Space

Split: TypeAlias = Callable[[str], tuple[str, tuple[str, ...]]]
"""From a name to its template, and to the numbers that the template leaves open."""

Lengths: TypeAlias = Mapping[str, Sequence[str]]
"""The lengths of tensors' axes by their names, as words have them."""

Way: TypeAlias = tuple[bool | None, ...]
"""Whether each part of an axis flips; None for a stretch that does not carry the space."""

Carried: TypeAlias = tuple[str, int, bool, Way]
"""A template, the axis that carries a space, whether each slab by itself, and its parts."""

Cut: TypeAlias = Callable[[str, int, Sequence[int]], Sequence[str] | None]
"""How the lengths of an axis' pieces are written, by template and axis; None if not known."""


@dataclass
class Description:
    """What rules say of tensors, and spaces for which there are none."""

    rules: list[Rule] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def splitter(blocks: Iterable[str], others: Iterable[str]) -> Split:
    """Templates for modules in lists of blocks, ``{layer}``, and in lists of others, ``{}``."""
    places = dict.fromkeys(others, "{}") | dict.fromkeys(blocks, "{layer}")

    def split(name: str) -> tuple[str, tuple[str, ...]]:
        parts, numbers = name.split("."), []
        for k, part in enumerate(parts):
            place = places.get(".".join(parts[:k]))
            if part.isdigit() and place:
                numbers.append(part)
                parts[k] = place
        return ".".join(parts), tuple(numbers)

    return split


def described(
    axes: Axes,
    shapes: Mapping[str, Sequence[int]],
    split: Split,
    lengths: Lengths,
    size: Callable[[Space, Sequence[Carried]], str | None],
    cut: Cut,
) -> Description:
    """Rules for the tensors of a model.

    Parameters
    ----------
    axes : Axes
        Of the model; with a residual stream.
    shapes : mapping of str to sequence of int
        Of its tensors by name.
    split : callable
        As `splitter` makes it.
    lengths : mapping
        How the lengths of axes are written, by names of tensors.
    size : callable
        From a space, and what carries it, to how its number of units is written; None if that is
        not known.
    cut : callable
        From a template, an axis and the lengths of its pieces to how these are written.

    Raises
    ------
    ValueError
        If a tensor carries a part of the stream, and not a whole axis.
    """
    alike: dict[str, dict[tuple[str, ...], str]] = defaultdict(dict)
    for name in shapes:
        template, numbers = split(name)
        alike[template][numbers] = name
    result = Description()
    carried: dict[tuple[str, int], Word] = {}
    for group in _grouped(axes, shapes, split, result.left_out):
        space, members = group[0][0], sorted({m for _, ms, _ in group for m in ms}, key=str)
        whole = _everywhere(group, members, alike, shapes)
        units = size(space, members) if whole else None
        taken = any((template, axis) in carried for template, axis, _, _ in members)
        pieces = None if units is None or taken else _pieces(group, shapes, split, cut)
        if units is None or pieces is None:
            result.left_out += [space.name for space, _, _ in group]
            continue
        kind = _kind(space, split, units, {kind.key for kind in result.kinds})
        result.kinds.append(kind)
        carried |= {place: Word(found, kind.key) for place, found in pieces.items()}
    whole_axes = _stream(axes, shapes)
    for template, names in alike.items():
        ways = {
            name: _shape(name, template, lengths, whole_axes, carried) for name in names.values()
        }
        if len(set(ways.values())) == 1:
            result.rules.append(Rule(template, next(iter(ways.values()))))
        else:
            result.rules += [Rule(name, shape) for name, shape in ways.items()]
    return result


def _stream(axes: Axes, shapes: Mapping[str, Sequence[int]]) -> dict[tuple[str, int], Way]:
    """Whether an axis carries the stream with its signs, once or several times over."""
    found = {}
    for member in axes.residual.members if axes.residual is not None else ():
        size, length = axes.residual.size, shapes[member.tensor][member.axis]  # type: ignore[union-attr]
        stretches = None if member.slab is not None else stretches_of(member, size, length)
        way = tuple(odd for _, odd in stretches or ())
        if len(set(way)) != 1 or None in way or len(way) * size != length:
            raise ValueError(
                f"the residual stream lies in parts of {member.tensor}, which is no whole axis"
            )
        found[member.tensor, member.axis] = way
    return found


_Instance: TypeAlias = tuple[
    Space, tuple[Carried, ...], frozenset[tuple[tuple[str, ...], int | None]]
]
"""A space, what carries it, and the numbers and slabs of the tensors that do."""


def _grouped(
    axes: Axes, shapes: Mapping[str, Sequence[int]], split: Split, left_out: list[str]
) -> list[list[_Instance]]:
    """Spaces but the stream, those together that the same kinds of tensors carry alike."""
    groups: dict[object, list[_Instance]] = defaultdict(list)
    for space in axes.spaces:
        if space.name == RESIDUAL:
            continue
        carried = carried_by(space, shapes, split)
        if carried is None:
            left_out.append(space.name)
            continue
        places = frozenset((split(member.tensor)[1], member.slab) for member in space.members)
        groups[space.group, carried].append((space, carried, places))
    return list(groups.values())


def carried_by(
    space: Space, shapes: Mapping[str, Sequence[int]], split: Split
) -> tuple[Carried, ...] | None:
    """What carries a space, in order; None if no tensor has it alone on an axis, and as blocks."""
    carried = set()
    alone = False
    for member in space.members:
        stretches = stretches_of(member, space.size, shapes[member.tensor][member.axis])
        if stretches is None:
            return None
        way = tuple(odd for _, odd in stretches)
        alone |= None not in way
        carried.add((split(member.tensor)[0], member.axis, member.slab is not None, way))
    return tuple(sorted(carried, key=str)) if space.size > 1 and alone else None


def stretches_of(member: Member, units: int, length: int) -> list[tuple[int, bool | None]] | None:
    """An axis as stretches, with their lengths: those that a space fills, and others, None.

    None if the space's units are no blocks.
    """
    parts = member.parts(units)
    if parts is None:
        return None
    found: list[tuple[int, bool | None]] = []
    end = 0
    for start, width, odd in parts:
        if start > end:
            found.append((start - end, None))
        found.append((units * width, odd))
        end = start + units * width
    return [*found, (length - end, None)] if length > end else found


def _pieces(
    group: Sequence[_Instance], shapes: Mapping[str, Sequence[int]], split: Split, cut: Cut
) -> dict[tuple[str, int], tuple[Piece, ...]] | None:
    """The pieces of axes that a kind of space fills; None if their lengths are not known.

    Parts of one length are one piece.
    """
    found: dict[tuple[str, int], tuple[Piece, ...]] = {}
    for space, _, _ in group:
        for member in space.members:
            place = split(member.tensor)[0], member.axis
            stretches = stretches_of(member, space.size, shapes[member.tensor][member.axis]) or []
            runs = [list(run) for _, run in groupby(stretches, lambda s: (s[0], s[1] is None))]
            lengths = [sum(length for length, _ in run) for run in runs]
            written = [""] if len(runs) == 1 else cut(*place, lengths)
            if written is None:
                return None
            pieces = tuple(
                Piece(text, tuple(odd for _, odd in run if odd is not None))
                for text, run in zip(written, runs, strict=True)
            )
            if found.setdefault(place, pieces) != pieces:
                return None
    return found


def _everywhere(
    group: Sequence[_Instance],
    members: Sequence[Carried],
    alike: Mapping[str, Mapping[tuple[str, ...], str]],
    shapes: Mapping[str, Sequence[int]],
) -> bool:
    """Whether every block that has the tensors of a kind of space has a space of this kind."""
    wanted = set()
    for template, _, by_slab, _ in members:
        for numbers, name in alike[template].items():
            slabs = range(shapes[name][0]) if by_slab else (None,)
            wanted |= {(numbers, slab) for slab in slabs}
    local = [places for _, _, places in group if len({numbers for numbers, _ in places}) == 1]
    if len(local) == len(group):
        found = [place for places in local for place in places]
        if any(by_slab for _, _, by_slab, _ in members):
            wanted = {place for place in wanted if place[1] is not None}
            found = [place for place in found if place[1] is not None]
        complete = all(alike[template].keys() == {n for n, _ in wanted} for template, *_ in members)
        return complete and len(found) == len(set(found)) and set(found) == wanted
    return len(group) == 1 and set(group[0][2]) == wanted


def _kind(space: Space, split: Split, units: str, taken: set[str]) -> Kind:
    place, _, what = space.name.partition(" ")
    place = split(place + ".")[0].removesuffix(".")
    what = re.sub(" of a slab.*", " of a slab {slab}", what)
    parts = [part for part in place.split(".") if part.isidentifier()]
    base = parts[-1] if parts else "inner"
    names = [base, *(f"{base}_{k}" for k in range(2, len(taken) + 3))]
    key = next(name for name in names if name not in taken and name != "D")
    return Kind(key, f"{place} {what}", space.group, units)


def _shape(
    name: str,
    template: str,
    lengths: Lengths,
    whole_axes: Mapping[tuple[str, int], Way],
    carried: Mapping[tuple[str, int], Word],
) -> str:
    words = []
    for axis, length in enumerate(lengths[name]):
        word = carried.get((template, axis), Word((Piece(length),)))
        if (name, axis) in whole_axes:
            word = stream(*map(bool, whole_axes[name, axis]), length=length)
        elif len(word.pieces) == 1:
            word = Word((Piece(length, word.odd),), word.space)
        words.append(word)
    return " ".join(map(str, words))
