"""Training runs of FSDP in folders of their own kinds, and DeepSpeed's universal form.

They are those of ``torch.distributed.checkpoint``, or have all weights in one file, and all moments
in another. All name what they hold: FSDP and accelerate write ``model.NAME`` and
``optimizer.state.NAME.SLOT``, torchtitan ``NAME`` in place of the first and Megatron-core
``optimizer.state.SLOT.NAME`` of the second, both with names of their own; DeepSpeed's
``ds_to_universal.py`` a file ``zero/NAME/SLOT.pt``.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch

from bmatch.architecture import residual_axes
from bmatch.architecture.axes import ResidualAxes
from bmatch.architecture.megatron import MEGATRON
from bmatch.architecture.spellings import Spelled
from bmatch.architecture.torchtitan import TORCHTITAN
from bmatch.files.atomic import new_folder, require_new
from bmatch.files.containers import Container, leaves, open_container, unpickled
from bmatch.files.distributed import DistributedFiles
from bmatch.files.opening import indexed
from bmatch.groups import Gauge
from bmatch.jobs.progress import Progress
from bmatch.models.digest import Digest, require_finite
from bmatch.models.rewrite import OTHER_WEIGHTS
from bmatch.models.trainer import NamedParameters, Parameters, Shape, parameters_of
from bmatch.transport.moved import require_moved
from bmatch.transport.objects import SIDECAR, Along, notes_of, require_known
from bmatch.transport.optimizer import read_state, require_exact, state_of
from bmatch.transport.pieces import Pieces
from bmatch.transport.resuming import (
    FULL,
    STATE,
    UNIVERSAL,
    config_in,
    is_full,
    is_kept,
    require_named,
    weight_name,
)
from bmatch.transport.slots import SLOTS

_FLAT = re.compile(r"state\.(.+)\.([^.]+)")
_OF_MEGATRON = re.compile(r"(chained_\d+\.)?optimizer\.state\.([^.]+)\.(.+)")
_KEPT = re.compile(r"(lr_?scheduler|scheduler|train_state|dataloader|step|epoch|rng)\b.*")


Move: TypeAlias = Callable[[Any, Gauge], Any]


@dataclass
class _Found:
    """What a folder holds: how it moves, and where weights and moments are.

    Places are files or folders below it; what is in them has a name there. `axes` is the table by
    the names in use, `files` are those that are written anew, `pieces` what lies in rows.
    """

    axes: ResidualAxes
    spelled: Spelled | None = None
    files: set[Path] = field(default_factory=set)
    moves: dict[Path, dict[str, Move]] = field(default_factory=dict)
    containers: dict[Path, Container] = field(default_factory=dict)
    weights: dict[str, tuple[Path, str]] = field(default_factory=dict)
    moments: dict[str, dict[str, tuple[Path, str]]] = field(default_factory=dict)
    pieces: dict[tuple[Path, str], Pieces] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Of weights."""
        return {name: self._shape(*place) for name, place in self.weights.items()}

    def _shape(self, place: Path, key: str) -> Shape:
        pieces = self.pieces.get((place, key))
        return self.containers[place].shapes[key] if pieces is None else pieces.shape

    def hashed(self, name: str) -> str:
        """What a weight is called in the hash of all: as transformers has it, if it has it."""
        return name if self.spelled is None else self.spelled.in_transformers(name)


def sharded_checkpoint(
    folder: Path,
    gauge: Gauge,
    out: Path,
    progress: Progress,
    tell: Callable[[str], None] | None = None,
    config: Mapping[str, Any] | None = None,
) -> str:
    """As `trainer_checkpoint`, of these folders; the model's ``config.json`` is in them, or given.

    What was written by many processes is written anew by one, under the same names.
    """
    require_new(out)
    config = config_in(folder) if config is None else config
    try:
        axes = residual_axes(config)
        require_exact(axes, gauge)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    if (folder / UNIVERSAL).is_dir():
        found = _universal(folder, axes, config)
    else:
        read = _full if is_full(folder) else _distributed
        found = read(folder, axes, config)
    if not found.moments:
        raise FileNotFoundError(f"{folder} has no state of an optimizer")
    copied: list[Path] = []
    left: list[Path] = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in found.files:
            (left if path.suffix in OTHER_WEIGHTS and not is_kept(path) else copied).append(path)
    if left and tell is not None:
        names = ", ".join(str(path.relative_to(folder)) for path in left)
        tell(f"not copied along: {names} (other weights, or what is not known)")

    digest = Digest(gauge.metadata.get("source_sha256"))
    weights = {(place, key): name for name, (place, key) in found.weights.items()}
    notes = notes_of(gauge)
    with new_folder(out) as made:
        for place in progress(tuple(found.containers), "Applying gauge"):

            def transform(key: str, tensor: torch.Tensor, place: Path = place) -> torch.Tensor:
                name = weights.get((place, key))
                if name is not None:
                    require_finite(name, tensor, folder)
                    if not (axes.tied and name in found.axes.family.heads):
                        digest.add(found.hashed(name), tensor)
                moved: torch.Tensor = found.moves[place][key](tensor, gauge)
                return moved

            (made / place.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            found.containers[place].copy(made / place.relative_to(folder), transform, {})
        for path in copied:
            (made / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, made / path.relative_to(folder))
        (made / SIDECAR).write_text(json.dumps(notes, indent=2) + "\n")
        _require_moved(folder, made, found, gauge)
    return digest.told()


def _distributed(folder: Path, axes: ResidualAxes, config: Mapping[str, Any]) -> _Found:
    files = {place: DistributedFiles(place) for place in indexed(folder)}
    names = {weight_name(key) for kept in files.values() for key in kept.shapes}
    spelling = next((known for known in (TORCHTITAN, MEGATRON) if known.mark in names), None)
    spelled = None if spelling is None else spelling.spelled(axes, names)
    found = _Found(axes if spelled is None else spelled.axes, spelled)
    for place, kept in files.items():
        require_named(place, (*kept.shapes, *kept.others))
        container = kept.container(opaque=spelling is MEGATRON)
        moves: dict[str, Move] = {k: Along() for k in container.shapes if _KEPT.fullmatch(k)}
        for key in container.shapes:
            rule = found.axes.rule(weight_name(key))
            if rule is not None:
                found.weights[weight_name(key)] = place, key
                moves[key] = Along(rule.axes)
        states = [key for key in container.shapes if _in_state(key)]
        require_known(place, container.shapes, (*moves, *states))
        found.moves[place], found.containers[place] = moves, container
        found.files |= kept.files
    _require_model(folder, found)
    parameters = parameters_of(config) if spelled is None else NamedParameters(found.shapes)
    for place, container in found.containers.items():
        try:
            _take_state(found, place, container, parameters)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    return found


def _take_state(
    found: _Found, place: Path, container: Container, parameters: Parameters | NamedParameters
) -> None:
    """Note how the state of an optimizer moves, of what is in a container."""
    states = {_in_state(key): key for key in container.shapes if _in_state(key)}
    if not states:
        return
    shapes = {path: container.shapes[key] for path, key in states.items()}
    pieces = _in_rows(shapes, parameters.shapes)
    shapes |= {path: kept.shape for path, kept in pieces.items()}
    rest = {_in_state(k): v for k, v in container.rest.items() if _in_state(k)}
    state = read_state(shapes, _grouped(shapes, rest), found.axes, parameters)
    for path, move in state.moves.items():
        key, kept = states[path], pieces.get(path)
        found.moves[place][key] = move if kept is None else kept.along(move)
        if kept is not None:
            found.pieces[place, key] = kept
    for name, slots in state.moments.items():
        places = {slot: (place, states[path]) for slot, path in slots.items()}
        found.moments.setdefault(name, {}).update(places)


def _in_rows(shapes: Mapping[str, Shape], weights: Mapping[str, Shape]) -> dict[str, Pieces]:
    """What of a state is kept in rows, as its weight is not."""
    found = {}
    for path, stored in shapes.items():
        name, _, slot = path.removeprefix("state/").rpartition("/")
        shape = weights.get(name, stored)
        pieces = Pieces(shape, stored)
        if slot in SLOTS and stored != shape and len(stored) > len(shape) and pieces.fits:
            found[path] = pieces
    return found


def _in_state(key: str) -> str:
    """What an entry would be called in the state of an optimizer; nothing if it is none of one."""
    of_megatron = _OF_MEGATRON.fullmatch(key)
    if of_megatron is not None:
        return f"state/{of_megatron[3]}/{of_megatron[2]}"
    top, _, below = key.partition("/")
    return _FLAT.sub(r"state/\1/\2", below) if top in ("optimizer", "optim") else ""


def _grouped(shapes: Mapping[str, Any], rest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The groups, of a state that has none, or was flattened and has options of each parameter."""
    if any(not path.startswith("param_groups.") for path in rest):
        return rest
    names = dict.fromkeys(path.split("/")[1] for path in shapes)
    return {f"param_groups/0/params/{number}": name for number, name in enumerate(names)}


def _universal(folder: Path, axes: ResidualAxes, config: Mapping[str, Any]) -> _Found:
    found, shapes = _Found(axes), parameters_of(config).shapes
    for path in sorted(folder.rglob("*.pt")):
        if is_kept(path):
            continue
        container, name, slot = open_container(path), path.parent.name, path.stem
        moves: dict[str, Move] = {}
        if path.parent.parent != folder / UNIVERSAL:
            known = {k: axes.rule(k.removeprefix("module/")) for k in container.shapes}
            moves = {key: Along(rule.axes) for key, rule in known.items() if rule is not None}
            require_known(path, container.shapes, moves)
        elif slot == "step":
            moves = {key: Along() for key in container.shapes}
        else:
            keys = [key for key in container.shapes if key in ("param", "")]
            if name not in shapes or slot not in SLOTS or keys != list(container.shapes):
                raise ValueError(f"{path}: how it moves with the stream is not known")
            (key,) = keys
            wanted, shape = SLOTS[slot].shape(shapes[name]), container.shapes[key]
            moves[key] = move = SLOTS[slot].along(len(shapes[name]), axes.row(name).axes)
            if shape != wanted:
                found.pieces[path, key] = row = Pieces(wanted, shape)
                if len(shape) != 1 or not row.fits:
                    raise ValueError(f"{path} is {list(shape)}, and should be {list(wanted)}")
                moves[key] = row.along(move)
            if slot == "fp32":
                found.weights[name] = path, key
            else:
                found.moments.setdefault(name, {})[slot] = path, key
        found.moves[path], found.containers[path] = moves, container
        found.files.add(path)
    _require_model(folder, found)
    return found


def _full(folder: Path, axes: ResidualAxes, config: Mapping[str, Any]) -> _Found:
    found, path = _Found(axes), folder / FULL
    weights = open_container(path)
    rules = {name: axes.rule(name) for name in weights.shapes}
    moves: dict[str, Move] = {n: Along(rule.axes) for n, rule in rules.items() if rule is not None}
    require_known(path, weights.shapes, moves)
    found.weights = {name: (path, name) for name in weights.shapes}
    found.containers[path], found.moves[path] = weights, moves
    _require_model(folder, found)
    for path in sorted(p for p in folder.iterdir() if STATE.fullmatch(p.name)):
        container = open_container(path)
        state = state_of(container, axes, config)
        found.containers[path], found.moves[path] = container, dict(state.moves)
        for name, slots in state.moments.items():
            places = {slot: (path, key) for slot, key in slots.items()}
            found.moments.setdefault(name, {}).update(places)
    found.files |= set(found.containers)
    return found


def _require_model(folder: Path, found: _Found) -> None:
    """Weights are those of the config's model, all of them, where there are any."""
    if not found.weights:
        raise FileNotFoundError(f"{folder} has the state of an optimizer and no weights beside it")
    try:
        found.axes.require_names(found.weights)
        found.axes.require_shapes(found.shapes)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None


def _require_moved(folder: Path, made: Path, found: _Found, gauge: Gauge) -> None:
    """As `require_moved`, of what was written."""
    names = {name: kept for name, kept in found.moments.items() if name in found.weights}
    moments = {n: {slot: f"{n}/{slot}" for slot in kept} for n, kept in names.items()}

    def reader(root: Path, states: bool) -> Callable[[str], torch.Tensor]:
        def read(name: str) -> torch.Tensor:
            parameter, _, slot = name.rpartition("/") if states else (name, "", "")
            place, key = names[parameter][slot] if states else found.weights[name]
            there = root / place.relative_to(folder)
            tensor: torch.Tensor = (
                DistributedFiles(there).tensor(key)
                if there.is_dir()
                else dict(leaves(unpickled(there)))[key]
            )
            rows = found.pieces.get((place, key))
            return tensor if rows is None else rows.whole(tensor)

        return read

    weights = reader(folder, False), reader(made, False)
    require_moved(folder, weights, (reader(folder, True), reader(made, True)), moments, gauge)
