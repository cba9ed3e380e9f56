"""A network in parts that can be read and aligned one at a time.

Once the spaces that reach over layers are fixed, nothing couples one layer's neurons with those of
another: what is left falls apart into sets of tensors, a layer's MLP or attention each.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from bmatch.architecture.nesting import Nesting
from bmatch.architecture.spaces import Axes, Space
from bmatch.network.selection import is_wide


@dataclass(frozen=True)
class Part:
    """Tensors, and the spaces that are in these alone, outer ones before what lies in them."""

    tensors: tuple[str, ...]
    spaces: tuple[Space, ...]


def parts_of(axes: Axes, nesting: Nesting) -> tuple[tuple[Space, ...], tuple[Part, ...]]:
    """The spaces that reach over parts, the one with most members first, and the parts."""
    wide = [space for space in axes.spaces if is_wide(space)]
    names = dict.fromkeys(member.tensor for space in axes.spaces for member in space.members)
    root = {name: name for name in names}

    def find(name: str) -> str:
        while root[name] != name:
            root[name] = name = root[root[name]]
        return name

    local = [space for space in axes.spaces if space not in wide]
    for space in local:
        for member in space.members:
            root[find(member.tensor)] = find(space.members[0].tensor)
    tensors: dict[str, list[str]] = defaultdict(list)
    for name in names:
        tensors[find(name)].append(name)
    spaces: dict[str, list[Space]] = defaultdict(list)
    for space in sorted(local, key=lambda space: nesting.depth(space.name)):
        spaces[find(space.members[0].tensor)].append(space)
    parts = tuple(Part(tuple(found), tuple(spaces[key])) for key, found in tensors.items())
    return tuple(sorted(wide, key=lambda space: -len(space.members))), parts
