"""Kinds of spaces, by which some of them are chosen: the stream, neurons, heads, experts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal, TypeAlias, get_args

from bmatch.architecture.nesting import Nesting
from bmatch.architecture.spaces import Axes, Space

Kind: TypeAlias = Literal["residual", "neurons", "heads", "experts"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def selected(axes: Axes, kinds: Iterable[str]) -> Axes:
    """The spaces of these kinds alone; all where ``all`` is one of them.

    Raises
    ------
    ValueError
        If a kind is unknown, or the model has no space of any of them.
    """
    wanted = set(kinds)
    unknown = sorted(wanted - {*KINDS, "all"})
    if unknown or not wanted:
        raise ValueError(f"spaces must be 'all' or some of {', '.join(KINDS)}; got {unknown}")
    kind_of = kinds_of(axes)
    kept = tuple(s for s in axes.spaces if "all" in wanted or kind_of[s.name] in wanted)
    if not kept:
        raise ValueError(f"the model has no space of the kinds {', '.join(sorted(wanted))}")
    return replace(axes, spaces=kept)


def kinds_of(axes: Axes) -> dict[str, Kind]:
    """The kind of each space, told from where its units lie.

    Experts are slabs of tensors, heads are blocks along an axis, and what lies in a head counts as
    heads. The residual stream's kind has all that reaches over layers.
    """
    nesting = Nesting.of(axes)
    sliced = {m.tensor for s in axes.spaces for m in s.members if m.slab is not None or m.axis > 1}
    found: dict[str, Kind] = {}
    for space in sorted(axes.spaces, key=lambda space: nesting.depth(space.name)):
        members = space.members
        outer = [found[level.outer] for level in nesting.within.get(space.name, ())]
        if is_wide(space):
            found[space.name] = "residual"
        elif any(m.is_blocks for m in members) or "heads" in outer:
            found[space.name] = "heads"
        elif any(m.tensor in sliced and (m.axis, m.slab) == (0, None) for m in members):
            found[space.name] = "experts"
        else:
            found[space.name] = "neurons"
    return found


def is_wide(space: Space) -> bool:
    """Whether a space is no single layer's, nor of a single module outside of the layers."""
    homes = {_home(member.tensor) for member in space.members}
    return space.name == "residual" or len(homes) > 1


def _home(tensor: str) -> str:
    """A layer, which is what has the first number in a name; outside of layers a module."""
    layer = re.match(r".*?\.\d+(?=\.)", tensor)
    return layer[0] if layer else ".".join(tensor.split(".")[:-2])
