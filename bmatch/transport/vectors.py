"""Directions in the stream: steering and control vectors, and interventions of rank r."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bmatch.arrays import is_tensor
from bmatch.files.containers import SUFFIXES, Container, open_container
from bmatch.groups import Gauge
from bmatch.transport.formats import Format, matching
from bmatch.transport.hooks import place_of
from bmatch.transport.objects import Part, StreamObject

KIND = "directions"

_NAMES = (
    "direction",
    "directions",
    "vector",
    "vectors",
    "steering_vector",
    "control_vector",
    "bias",
    "v",
)
_NUMBERED = ("{}", "layer_{}", "layer{}", "layer.{}", "layers.{}", "direction.{}", "directions/{}")

FORMATS = (
    Format("one direction", dict.fromkeys(("", *_NAMES), "d"), ()),
    Format("directions by layer", dict.fromkeys(("", *_NAMES), "_ d"), ()),
    Format("directions by layer", dict.fromkeys(_NUMBERED, "d"), ()),
    Format("directions by position and layer", dict.fromkeys(("", *_NAMES), "_ _ d"), ()),
    Format(
        "LoReFT intervention",
        {"rotate_layer": "d r", "learned_source.weight": "r d", "learned_source.bias": "r"},
        ("rotate_layer", "learned_source.weight"),
    ),
    Format("linear probe", {"weight": "k d", "bias": "k"}, ("weight",)),
    Format("LM-Steer", {"1/projector1": "d r", "1/projector2": "d r"}, ("1/projector1",)),
    Format("linear transport", {"A_": "d d", "B_": "d"}, ("A_", "B_")),
)
"""``directions/N`` is that of .svec files; ``direction.N`` that of llama.cpp's control vectors."""


def vector(x: Any, gauge: Gauge, dim: int = -1) -> Any:
    """Carry a direction, or several, in memory.

    Parameters
    ----------
    x : array or tensor, or mapping of such, or an object with ``directions`` or
            ``layer_activations``
        With d entries along `dim`: ``[d]``, ``[layers, d]``. Objects are those of repeng and of
        steering-vectors: they are copied.
    gauge : SignedPermutation or OrthogonalGauge
        From its coordinates to those wanted.
    dim : int
        The dimension that carries the coordinates.

    Returns
    -------
    as `x`

    Raises
    ------
    ValueError
        If it has another number of coordinates.
    TypeError
        If it is nothing of these.
    """
    if is_tensor(x) or hasattr(x, "__array__"):
        return gauge.apply(x, dim)
    if isinstance(x, Mapping):
        return {key: vector(value, gauge, dim) for key, value in x.items()}
    for name in ("directions", "layer_activations"):
        held = getattr(x, name, None)
        if isinstance(held, Mapping):
            moved = {key: vector(value, gauge, dim) for key, value in held.items()}
            if dataclasses.is_dataclass(x) and not isinstance(x, type):
                return dataclasses.replace(x, **{name: moved})
            other = copy.copy(x)
            setattr(other, name, moved)
            return other
    raise TypeError(f"{type(x).__name__} is no array, mapping of arrays, or object with directions")


def find(path: Path, model: Mapping[str, Any] | None = None) -> StreamObject | None:
    """A file of directions, or a folder of such; None if it is neither.

    Raises
    ------
    ValueError
        If it is one that cannot be carried.
    """
    if path.is_file():
        files = [path]
    else:
        files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.suffix != ".json")
    found = [_part(open_container(file)) for file in files if file.suffix in SUFFIXES]
    if not found or any(part is None for part in found):
        return None
    parts = [part for part in found if part is not None]
    widths = {width for _, _, width in parts}
    if len(widths) > 1:
        raise ValueError(f"{path} holds directions of different widths: {sorted(widths)}")
    names = ", ".join(sorted({name for _, name, _ in parts}))
    where = _where(parts[0][0].container)
    return StreamObject(path, KIND, names, widths.pop(), tuple(p for p, _, _ in parts), where)


def _part(container: Container) -> tuple[Part, str, int] | None:
    rest, shapes = container.rest, container.shapes
    if container.path.suffix == ".gguf" and rest.get("general.architecture") != "controlvector":
        return None
    for known, lengths in matching(FORMATS, shapes):
        if lengths.get("d"):
            return Part(container, known.moves(shapes)), _name(container, known), lengths["d"]
    hooked = _by_hooks(shapes)
    if hooked is not None:
        for known, lengths in matching([hooked], shapes):
            if "d" not in lengths:
                return None
            return Part(container, known.moves(shapes)), known.name, lengths["d"]
    return None


def _name(container: Container, known: Format) -> str:
    kinds = {".gguf": "control vector of llama.cpp", ".svec": "activation-steering"}
    return kinds.get(container.path.suffix, known.name)


def _by_hooks(shapes: Mapping[str, tuple[int, ...]]) -> Format | None:
    """Directions under the names of hooks, each in the stream; None if a name is of no hook."""
    try:
        places = [place_of(name) for name in shapes]
    except ValueError:
        return None
    if not all(place.in_stream for place in places):
        return None
    if not shapes:
        return None
    shape = {1: "d", 2: "_ d"}
    letters = {name: shape.get(len(lengths), "") for name, lengths in shapes.items()}
    return Format("directions by hook", letters, ())


def _where(container: Container) -> dict[str, str]:
    keys = {
        "model": ("controlvector.model_hint", "model_type", "model_name", "model"),
        "layer": ("layer",),
        "hook": ("hook", "hook_name", "hook_point"),
    }
    return {
        name: str(container.rest[key])
        for name, synonyms in keys.items()
        for key in synonyms
        if key in container.rest
    }
