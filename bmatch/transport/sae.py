"""Sparse autoencoders, transcoders, crosscoders: their directions, carried; their features stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bmatch.files.containers import Container
from bmatch.files.opening import holders, open_holder
from bmatch.groups import Gauge
from bmatch.transport.formats import Format, matching
from bmatch.transport.hooks import Place, place_of
from bmatch.transport.objects import Along, Part, StreamObject
from bmatch.transport.sae_configs import SEVERAL, SaeConfig, read_config
from bmatch.transport.sae_formats import COMPANIONS, FORMATS
from bmatch.transport.sae_optimizer import is_optimizer, moment_moves, part_of

KIND = "sparse dictionary"
_INSIDE = ("sae/", "ae/")
"""Below which Llamascopium's .pt files have their tensors, beside a version, and those from which
dictionary_learning goes on, beside the optimizer's state."""
_FEW = 64
"""Tensors of a file of which it is asked what it might have been."""
_WEIGHTS = (".safetensors", ".npz", ".pt", ".pth", ".bin")


def sae(tensors: Mapping[str, Any], gauge: Gauge) -> dict[str, Any]:
    """Carry the tensors of a sparse autoencoder, transcoder or crosscoder in memory.

    Parameters
    ----------
    tensors : mapping of str to array or tensor
        As ``state_dict()`` of the package gives them, or its files: SAELens, Gemma Scope, Llama
        Scope, Llamascopium, sparsify, dictionary_learning, Qwen Scope, Goodfire, circuit-tracer.
        What it reads and what it writes are taken to lie in the stream, with `gauge.dim`
        coordinates.
    gauge : SignedPermutation or OrthogonalGauge
        From its coordinates to those wanted.

    Returns
    -------
    dict
        New tensors where they moved, the same where not. Features keep their numbers.

    Raises
    ------
    ValueError
        If the names are of no format that is known, or which axes lie in the stream cannot be told.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    found = [
        known for known, lengths in matching(FORMATS, shapes) if _widths(lengths) == {gauge.dim}
    ]
    known = _only(found, shapes, f"with {gauge.dim} coordinates")
    moves = known.moves(shapes)
    return {name: moves[name](tensor, gauge) for name, tensor in tensors.items()}


def find(path: Path, model: Mapping[str, Any] | None = None) -> StreamObject | None:
    """A sparse dictionary's file, or a folder of one or several; None if it is neither.

    Raises
    ------
    ValueError
        If it is one that cannot be carried.
    """
    files = holders(path, _WEIGHTS)
    opened = {}
    is_one = False  # and not only what lies beside one
    for file in files:
        container = open_holder(file)
        formats = [found for found, _ in matching((*FORMATS, *COMPANIONS), shapes_of(container))]
        if formats:
            opened[file] = container
            is_one = is_one or any(found in FORMATS for found in formats)
    if not is_one:
        return None
    parts, names, widths = [], set(), set()
    where: dict[str, str] = {}
    told_of_mean = ""
    for file, container in opened.items():
        config = _config_of(file, path)
        part, known, width = _part(container, config)
        parts.append(part)
        if width is not None:
            widths.add(width)
        names.add(known.name)
        where |= _where(config)
        told_of_mean = told_of_mean or _of_mean(config)
    if len(widths) > 1:
        raise ValueError(f"{path} holds dictionaries of different widths: {sorted(widths)}")
    parts += [_beside(file, parts) for file in files if file not in opened]
    name = ", ".join(sorted(names - {known.name for known in COMPANIONS}))
    return StreamObject(path, KIND, name, widths.pop(), tuple(parts), where, told_of_mean)


def nearest(path: Path) -> str:
    """What keeps a file from being a dictionary, as the end of a sentence; empty if much does."""
    for file in holders(path, _WEIGHTS):
        shapes = shapes_of(open_holder(file))
        for known in FORMATS if len(shapes) <= _FEW else ():
            strange = sorted(name for name in shapes if known.words(name) is None)
            rest = {name: shape for name, shape in shapes.items() if name not in strange}
            if 0 < len(strange) <= len(rest) and known.lengths(rest) is not None:
                told = ", ".join(f"{name} {list(shapes[name])}" for name in strange[:4])
                return f": {file} would be one of {known.name} without {told}"
    return ""


def dictionaries(path: Path) -> Iterator[tuple[Container, Format]]:
    """Each file that holds a dictionary, with its format; what lies beside it is left out.

    Raises
    ------
    ValueError
        If one is damaged, or which axes are features' cannot be told.
    """
    for file in holders(path, _WEIGHTS):
        container = open_holder(file)
        if any(True for _ in matching(FORMATS, shapes_of(container))):
            yield container, _known(container, _config_of(file, path))[0]


def _beside(file: Path, dictionaries: list[Part]) -> Part:
    """Of a file that is no dictionary, and may be what trained one."""
    container = open_holder(file)
    if is_optimizer(container):
        return part_of(container, dictionaries)
    if set(container.shapes.values()) <= {(), (1,)}:  # counts, as of what SAELens has read
        return Part(container, dict.fromkeys(container.shapes, Along()))
    raise ValueError(
        f"{file} lies beside a sparse dictionary, and how its tensors move with the stream is not "
        "known: take it out of the folder to carry the dictionary alone"
    )


def inside(container: Container) -> str:
    """What the names of a dictionary's tensors begin with in its file, beside those of formats."""
    return next(
        (start for start in _INSIDE if any(name.startswith(start) for name in container.shapes)), ""
    )


def shapes_of(container: Container) -> dict[str, tuple[int, ...]]:
    """Of a dictionary's tensors, by the names that formats know."""
    start = inside(container)
    training = bool(start) and is_optimizer(container)
    return {
        name.removeprefix(start): shape
        for name, shape in container.shapes.items()
        if name.startswith(start) or not training
    }


def _config_of(file: Path, root: Path) -> SaeConfig:
    """Beside the file, or in a folder above it that is still the object's."""
    folder = file.parent
    while True:
        config = read_config(folder)
        if config.path is not None or folder == root or file == root or folder == folder.parent:
            return config
        folder = folder.parent


def _known(container: Container, config: SaeConfig) -> tuple[Format, dict[str, int]]:
    """The format of a file, and what its letters stand for."""
    shapes = shapes_of(container)
    found = [
        (known, lengths)
        for known, lengths in matching((*FORMATS, *COMPANIONS), shapes)
        if _fits(lengths, config)
    ]
    known = _only([known for known, _ in found], shapes, f"in {container.path}")
    return known, next(lengths for one, lengths in found if one is known)


def _part(container: Container, config: SaeConfig) -> tuple[Part, Format, int | None]:
    known, lengths = _known(container, config)
    reads, writes = _places(container.path, config)
    spaces = [
        letter
        for letter, place in (("d", reads), ("o", writes))
        if place is None or place.in_stream
    ]
    if not spaces:
        place = writes or reads
        raise ValueError(
            f"{container.path} lies in the space of {place.name if place else 'a hook'}, inside "
            "its block: the gauge of the residual stream leaves it as it is"
        )
    widths = {lengths[letter] for letter in spaces if letter in lengths}
    if len(widths) > 1:
        raise ValueError(
            f"{container.path} reads {lengths['d']} coordinates and writes {lengths['o']}, and its "
            "hooks do not tell which side lies in the residual stream"
        )
    width = next(iter(widths), None)
    moves = known.moves(shapes_of(container), spaces)
    start = inside(container)
    named = {f"{start}{name}": move for name, move in moves.items()}
    beside = [name for name in container.shapes if name not in named]
    named |= moment_moves(container, beside, named)
    return Part(container, named), known, width


def _places(path: Path, config: SaeConfig) -> tuple[Place | None, Place | None]:
    """Where it reads and writes, None where nothing tells."""
    try:
        reads = _place_of_all(config.hook_in) if config.hook_in else None
        writes = _place_of_all(config.hook_out) if config.hook_out else reads
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return reads, writes


def _place_of_all(hooks: str) -> Place:
    """Where hooks lie, of which a crosscoder has several: the first inside a block, if one is."""
    places = [place_of(hook) for hook in hooks.split(SEVERAL)]
    return next((place for place in places if not place.in_stream), places[0])


def _fits(lengths: Mapping[str, int], config: SaeConfig) -> bool:
    told = {"d": config.width, "f": config.features}
    return all(lengths.get(letter, size) == size for letter, size in told.items() if size)


def _widths(lengths: Mapping[str, int]) -> set[int]:
    return {lengths[letter] for letter in ("d", "o") if letter in lengths}


def _only(found: list[Format], shapes: Mapping[str, tuple[int, ...]], where: str) -> Format:
    """The one that was found, or several by which tensors move alike."""
    if not found:
        raise ValueError(
            f"no format of sparse dictionaries that is known has these tensors {where}: "
            + ", ".join(f"{name} {list(shape)}" for name, shape in sorted(shapes.items())[:8])
        )
    if any(known.moves(shapes) != found[0].moves(shapes) for known in found):
        names = " and ".join(known.name for known in found)
        raise ValueError(
            f"which axes lie in the stream cannot be told {where}: the tensors' shapes are those "
            f"of {names}, which have them in different order"
        )
    return found[0]


def _where(config: SaeConfig) -> dict[str, str]:
    told = {
        "model": config.model,
        "architecture": config.architecture,
        "hook": config.hook_in,
        "hook_out": config.hook_out,
        "layer": config.layer,
    }
    return {name: value for name, value in told.items() if value is not None}


def _of_mean(config: SaeConfig) -> str:
    """Why only a gauge that keeps the mean over coordinates can carry it, empty if others can."""
    if config.normalisation == "layer_norm":
        return (
            "it subtracts the mean over coordinates from activations (normalize_activations "
            "layer_norm), which signs do not commute with"
        )
    if config.centred:
        return (
            "its model's writing weights were centred (center_writing_weights), and the mean over "
            "coordinates with them, which signs do not commute with"
        )
    return ""
