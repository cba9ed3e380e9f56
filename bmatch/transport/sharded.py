"""Training runs in folders of ``torch.distributed.checkpoint``, and DeepSpeed's universal form.

Both name what they hold: FSDP and accelerate write ``model.NAME`` and
``optimizer.state.NAME.SLOT``, torchtitan ``NAME`` in place of the first, with names of its own;
DeepSpeed's ``ds_to_universal.py`` a file ``zero/NAME/SLOT.pt``.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import torch

from bmatch.architecture import residual_axes
from bmatch.architecture.axes import ResidualAxes
from bmatch.architecture.spellings import as_in_transformers
from bmatch.files.atomic import new_folder, require_new
from bmatch.files.containers import Container, leaves, open_container, unpickled
from bmatch.files.distributed import DistributedFiles
from bmatch.groups import Gauge
from bmatch.jobs.progress import Progress
from bmatch.models.checkpoint import Digest, require_finite
from bmatch.models.rewrite import OTHER_WEIGHTS
from bmatch.models.trainer import Shape, parameters_of
from bmatch.transport.moved import require_moved
from bmatch.transport.objects import SIDECAR, Along, notes_of, require_known
from bmatch.transport.optimizer import config_beside, read_state, require_exact
from bmatch.transport.resuming import UNIVERSAL, indexed, is_kept
from bmatch.transport.slots import SLOTS

_FLAT = re.compile(r"state\.(.+)\.([^.]+)")
_KEPT = re.compile(r"(lr_?scheduler|scheduler|train_state|dataloader|step|epoch|rng)\b.*")


Move: TypeAlias = Callable[[Any, Gauge], Any]


@dataclass
class _Found:
    """What a folder holds: how it moves, and where weights and moments are.

    Places are files or folders below it; what is in them has a name there. `flat` holds shapes of
    what lies in one row.
    """

    moves: dict[Path, dict[str, Move]] = field(default_factory=dict)
    containers: dict[Path, Container] = field(default_factory=dict)
    weights: dict[str, tuple[Path, str]] = field(default_factory=dict)
    moments: dict[str, dict[str, tuple[Path, str]]] = field(default_factory=dict)
    flat: dict[Path, Shape] = field(default_factory=dict)

    def shape(self, name: str) -> Shape:
        """Of a weight."""
        place, key = self.weights[name]
        return self.flat.get(place, self.containers[place].shapes[key])


def _in_one_row(shape: Shape, along: Along) -> Move:
    """How a tensor of this shape moves that lies in one row."""

    def move(tensor: torch.Tensor, gauge: Gauge) -> torch.Tensor:
        moved: torch.Tensor = along(tensor.reshape(shape), gauge)
        return moved.reshape(-1)

    return move


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
    config = config or config_beside(folder / UNIVERSAL)
    axes = residual_axes(config)
    require_exact(axes, gauge)
    universal = (folder / UNIVERSAL).is_dir()
    found = _universal(folder, axes, config) if universal else _distributed(folder, axes, config)
    if not found.moments:
        raise FileNotFoundError(f"{folder} has no state of an optimizer")
    taken = tuple(found.containers)
    copied: list[Path] = []
    left: list[Path] = []
    for path in sorted(folder.rglob("*")):
        inside = any(place in (path, *path.parents) for place in taken)
        if path.is_file() and not inside:
            (left if path.suffix in OTHER_WEIGHTS and not is_kept(path) else copied).append(path)
    if left and tell is not None:
        names = ", ".join(str(path.relative_to(folder)) for path in left)
        tell(f"not copied along: {names} (other weights, or what is not known)")

    digest = Digest()
    weights = {(place, key): name for name, (place, key) in found.weights.items()}
    notes = notes_of(gauge)
    with new_folder(out) as made:
        for place in progress(taken, "Applying gauge"):

            def transform(key: str, tensor: torch.Tensor, place: Path = place) -> torch.Tensor:
                name = weights.get((place, key))
                if name is not None:
                    require_finite(name, tensor, folder)
                    if not (axes.tied and name in axes.family.heads):
                        digest.add(name, tensor)
                moved: torch.Tensor = found.moves[place][key](tensor, gauge)
                return moved

            (made / place.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            found.containers[place].copy(made / place.relative_to(folder), transform, {})
        for path in copied:
            (made / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, made / path.relative_to(folder))
        (made / SIDECAR).write_text(json.dumps(notes, indent=2) + "\n")
        _require_moved(folder, made, found, gauge)
    return digest.hexdigest()


def _distributed(folder: Path, axes: ResidualAxes, config: Mapping[str, Any]) -> _Found:
    found = _Found()
    for place in indexed(folder):
        container = DistributedFiles(place).container()
        moves: dict[str, Move] = {k: Along() for k in container.shapes if _KEPT.fullmatch(k)}
        for key in container.shapes:
            name = as_in_transformers(key.removeprefix("model/"))
            rule = axes.rule(name)
            if rule is not None:
                found.weights[name] = place, key
                moves[key] = Along(rule.axes)
        states = {_in_state(key): key for key in container.shapes if _in_state(key)}
        if states:
            shapes = {path: container.shapes[key] for path, key in states.items()}
            rest = {_in_state(k): v for k, v in container.rest.items() if _in_state(k)}
            try:
                state = read_state(shapes, _grouped(shapes, rest), axes, config)
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
            moves |= {states[path]: move for path, move in state.moves.items()}
            for name, slots in state.moments.items():
                kept = {slot: (place, states[path]) for slot, path in slots.items()}
                found.moments.setdefault(name, {}).update(kept)
        require_known(place, container.shapes, moves)
        found.moves[place], found.containers[place] = moves, container
    _require_model(folder, found, axes)
    return found


def _in_state(key: str) -> str:
    """What an entry would be called in the state of an optimizer; nothing if it is none of one."""
    top, _, below = key.partition("/")
    if top not in ("optimizer", "optim"):
        return ""
    state, _, rest = _FLAT.sub(r"state/\1/\2", below).partition("/")
    name, _, slot = rest.partition("/")
    return f"{state}/{as_in_transformers(name)}/{slot}" if state == "state" else below


def _grouped(shapes: Mapping[str, Any], rest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The groups, of a state that was flattened and has options for each parameter."""
    if not any(path.startswith("param_groups.") for path in rest):
        return rest
    names = dict.fromkeys(path.split("/")[1] for path in shapes)
    return {f"param_groups/0/params/{number}": name for number, name in enumerate(names)}


def _universal(folder: Path, axes: ResidualAxes, config: Mapping[str, Any]) -> _Found:
    found, shapes = _Found(), parameters_of(config).shapes
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
            move = SLOTS[slot].along(len(shapes[name]), axes.row(name).axes)
            moves[key] = move if shape == wanted else _in_one_row(wanted, move)
            if shape != wanted:
                found.flat[path] = wanted
            if shape not in (wanted, (prod(wanted),)):
                raise ValueError(f"{path} is {list(shape)}, and should be {list(wanted)}")
            if slot == "fp32":
                found.weights[name] = path, key
            else:
                found.moments.setdefault(name, {})[slot] = path, key
        found.moves[path], found.containers[path] = moves, container
    _require_model(folder, found, axes)
    return found


def _require_model(folder: Path, found: _Found, axes: ResidualAxes) -> None:
    """Weights are those of the config's model, all of them, where there are any."""
    if not found.weights:
        raise FileNotFoundError(f"{folder} has the state of an optimizer and no weights beside it")
    try:
        axes.require_names(found.weights)
        axes.require_shapes({name: found.shape(name) for name in found.weights})
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
            return tensor.reshape(found.flat[place]) if place in found.flat else tensor

        return read

    weights = reader(folder, False), reader(made, False)
    require_moved(folder, weights, (reader(folder, True), reader(made, True)), moments, gauge)
