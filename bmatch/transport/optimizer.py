"""The state of an optimizer, carried with the weights that it steps.

States are those of ``torch.optim.Optimizer.state_dict()``, in memory and as `torch.save` has them:
by integers, whose names are found, or by names (FSDP, ``get_optimizer_state_dict``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bmatch.architecture import residual_axes
from bmatch.architecture.axes import ResidualAxes
from bmatch.files.containers import Container, leaves, open_container, unpickled
from bmatch.groups import Gauge
from bmatch.models.checkpoint import read_json
from bmatch.models.trainer import NamedParameters, Parameters, Shape, parameters_of
from bmatch.transport.objects import Along, Part, StreamObject
from bmatch.transport.ordering import require_order
from bmatch.transport.slots import SCALARS, SLOTS, plain, refused

_ENTRY = re.compile(r"state/(.+)/([^/]+)")
_MEMBER = re.compile(r"param_groups/(\d+)/(params|param_names)/(\d+)")
_OPTION = re.compile(r"param_groups/\d+/([^/]+)(/.*)?")
_PROJECTED = frozenset({"rank", "update_proj_gap", "proj_type"})  # options of GaLore and APOLLO


def optimizer_state(
    state: Mapping[str, Any],
    gauge: Gauge,
    model_or_config: Any,
    names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Carry the state of an optimizer to other coordinates: the steps that follow stay the same.

    Parameters
    ----------
    state : mapping
        As ``optimizer.state_dict()`` gives it; left as it is. By integers, or by names of
        parameters as FSDP and ``get_optimizer_state_dict`` have them.
    gauge : SignedPermutation
        From the coordinates of the weights to those wanted, on the device of the state.
    model_or_config
        The model that is trained, its config, or the content of ``config.json``.
    names : sequence of str, optional
        Of the parameters, in the order in which the optimizer was given them. Default: as the state
        tells, or in that order among those in use which fits all shapes.

    Returns
    -------
    dict
        A new state of new tensors, of the same dtypes, for ``optimizer.load_state_dict``.

    Raises
    ------
    ValueError
        If it holds something of which no table tells how it moves, the order of the parameters is
        not known, a shape is not that of the weight, widths differ, or the gauge is a rotation or
        of a larger group than the architecture's.
    """
    axes = residual_axes(model_or_config)
    require_exact(axes, gauge)
    tensors = {p: leaf for p, leaf in leaves(state) if isinstance(leaf, torch.Tensor)}
    for path, tensor in tensors.items():
        if not plain(tensor):
            raise ValueError(
                f"{path} is a {type(tensor).__name__} that is quantised, sparse or sharded: take "
                "the full state of plain tensors"
            )
    shapes = {path: tuple(tensor.shape) for path, tensor in tensors.items()}
    rest = {path: leaf for path, leaf in leaves(state) if path not in tensors}
    found = read_state(shapes, rest, axes, parameters_of(model_or_config), names)
    if found.numbered:
        require_order(tensors.__getitem__, found.moments, axes)

    def moved(tree: Any, path: str = "") -> Any:
        if isinstance(tree, torch.Tensor):
            made = found.moves[path](tree, gauge)
            return tree.clone() if made is tree else made
        if isinstance(tree, Mapping):
            return {k: moved(v, f"{path}/{k}" if path else str(k)) for k, v in tree.items()}
        if isinstance(tree, (list, tuple)):
            return type(tree)(moved(v, f"{path}/{k}") for k, v in enumerate(tree))
        return tree

    result: dict[str, Any] = moved(state)
    return result


def find(path: Path, model: Mapping[str, Any] | None = None) -> StreamObject | None:
    """The state of an optimizer in a file of `torch.save`; None if something else is in it.

    Parameters
    ----------
    path : Path
    model : mapping, optional
        The content of the model's ``config.json``. Default: of that beside the file.

    Raises
    ------
    ValueError
        As `optimizer_state`, and if there is no config.
    """
    if not path.is_file() or path.suffix not in (".pt", ".bin", ".pth"):
        return None
    container = open_container(path)
    if not any(_MEMBER.fullmatch(name) for name in container.rest):
        return None
    config = config_beside(path) if model is None else model
    axes = residual_axes(config)
    part = Part(container, state_of(container, axes, config).moves)
    return StreamObject(path, "optimizer state", "torch.optim", axes.dim, (part,))


def config_beside(path: Path) -> Mapping[str, Any]:
    """The config of the model in the same folder.

    Raises
    ------
    ValueError
        If there is none.
    """
    file = path.with_name("config.json")
    if not file.is_file():
        raise ValueError(
            f"{path} tells nothing of the model: put its config.json beside it, or give it "
            "with --model"
        )
    return read_json(file)


def state_of(container: Container, axes: ResidualAxes, config: Any) -> State:
    """As `read_state`, of a file of `torch.save`, whose moments are held against their order.

    Raises
    ------
    ValueError
        As `read_state` and `require_order`, with the file's path.
    """
    try:
        found = read_state(container.shapes, container.rest, axes, parameters_of(config))
        if found.numbered:
            moments = dict(leaves(unpickled(container.path)))
            require_order(moments.__getitem__, found.moments, axes)
    except ValueError as error:
        raise ValueError(f"{container.path}: {error}") from None
    return found


def require_exact(axes: ResidualAxes, gauge: Gauge) -> None:
    """Refuse a gauge that cannot carry an optimizer's state.

    Raises
    ------
    ValueError
        If it is a rotation, or no gauge of the model.
    """
    if gauge.group == "orthogonal":
        raise ValueError(
            "the gauge is a rotation, and optimizers keep scales of single coordinates, which it "
            "mixes: a state is carried by signed permutations alone"
        )
    axes.require_gauge(gauge)


@dataclass(frozen=True)
class State:
    """What is known of a state.

    Attributes
    ----------
    moves : dict of str to Along
        How each of its tensors moves, by names like ``state/0/exp_avg``.
    moments : dict of str to dict of str to str
        What those are called that are kept of a parameter: by its name, and then by slot.
    numbered : bool
        Whether names were found by an order in use, and not in the state.
    """

    moves: Mapping[str, Along]
    moments: Mapping[str, Mapping[str, str]]
    numbered: bool


def read_state(
    shapes: Mapping[str, Shape],
    rest: Mapping[str, Any],
    axes: ResidualAxes,
    parameters: Parameters | NamedParameters,
    names: Sequence[str] | None = None,
) -> State:
    """How every tensor of a state moves, and whose it is.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Of its tensors, by names like ``state/0/exp_avg``.
    rest : mapping of str to object
        What else is in it, by names like ``param_groups/0/lr``.
    axes : ResidualAxes
    parameters : Parameters or NamedParameters
        Of the model, by the table's names.
    names
        As for `optimizer_state`.

    Raises
    ------
    ValueError
        As `optimizer_state`.
    """
    entries = _entries(shapes, rest)
    groups, told = _groups(entries, rest)
    numbered = names is None and told is None
    names = names if names is not None else told
    named = (
        _rebuilt(entries, groups, axes, parameters)
        if names is None
        else _named(entries, groups, axes, parameters, names)
    )
    moves = {path: Along() for path in shapes}  # a learning rate may be a tensor
    moments: dict[str, dict[str, str]] = {}
    for key, slots in entries.items():
        name, weight = named[key]
        moments[name] = {slot: f"state/{key}/{slot}" for slot in slots if slot in SLOTS}
        for slot, path in moments[name].items():
            moves[path] = SLOTS[slot].along(len(weight), axes.row(name).axes)
    return State(moves, moments, numbered)


def _entries(shapes: Mapping[str, Shape], rest: Mapping[str, Any]) -> dict[str, dict[str, Shape]]:
    """Shapes of what is kept of each parameter, by its integer or name, all of it known."""
    entries: dict[str, dict[str, Shape]] = {}
    for path in (*shapes, *rest):
        entry, option = _ENTRY.fullmatch(path), _OPTION.fullmatch(path)
        if option and option[1] in _PROJECTED:
            raise ValueError(f"{path}: {refused('projector')}")
        if option:
            continue
        if entry is None:
            raise ValueError(
                f"{path} is no part of what torch.optim keeps, so how it moves is not known"
            )
        key, slot = entry[1], entry[2]
        shape, value = shapes.get(path), rest.get(path)
        if slot not in SLOTS and slot not in SCALARS:
            # Lists of tensors, such as those of SOAP, bear the list's name one step higher.
            told = next((s for s in reversed(path.split("/")) if refused(s) != refused("")), slot)
            raise ValueError(f"{path}: {refused(told)}")
        if slot in SCALARS and shape is not None and shape not in ((), (1,)):
            raise ValueError(f"{path} is {list(shape)} and should be one number")
        if slot in SLOTS and shape is None and value is not None:
            raise ValueError(f"{path} is {value!r} and should be a tensor")
        if shape is not None:
            entries.setdefault(key, {})[slot] = shape
    return entries


def _groups(
    entries: Mapping[str, Mapping[str, Shape]], rest: Mapping[str, Any]
) -> tuple[list[list[str]], list[str] | None]:
    """The keys of a state, group by group, and their names if it has them."""
    members: dict[str, dict[int, list[Any]]] = {"params": {}, "param_names": {}}
    for path, value in rest.items():
        if found := _MEMBER.fullmatch(path):
            members[found[2]].setdefault(int(found[1]), []).append(str(value))
    groups = [members["params"][number] for number in sorted(members["params"])]
    keys = [key for group in groups for key in group]
    strange = sorted(set(entries) - set(keys))
    if strange or len(set(keys)) != len(keys):
        raise ValueError(
            f"groups and states disagree on {', '.join(strange[:5]) or 'what a group has twice'}: "
            "the state is damaged"
        )
    told = [name for n in sorted(members["params"]) for name in members["param_names"].get(n, [])]
    if len(told) == len(keys):
        return groups, told
    return groups, None if all(key.isdigit() for key in keys) else keys


def _named(
    entries: Mapping[str, Mapping[str, Shape]],
    groups: Sequence[Sequence[str]],
    axes: ResidualAxes,
    parameters: Parameters | NamedParameters,
    names: Sequence[str],
) -> dict[str, tuple[str, Shape]]:
    """Name and shape of the parameter that each key of a state stands for."""
    keys = [key for group in groups for key in group]
    if len(names) != len(keys):
        raise ValueError(f"{len(names)} names came for {len(keys)} parameters of the state")
    shapes = parameters.shapes
    named = {}
    for key, name in zip(keys, names, strict=True):
        if name not in shapes or axes.rule(name) is None:
            raise ValueError(f"the {axes.model_type} of the config has no parameter {name}")
        misfit = _misfit(entries.get(key, {}), shapes[name])
        if misfit:
            raise ValueError(f"{misfit[0]} of {name}, {list(shapes[name])}, is {misfit[1]}")
        named[key] = name, shapes[name]
    return named


def _misfit(slots: Mapping[str, Shape], weight: Shape) -> tuple[str, list[int]] | None:
    """What does not have the shape that it has for a weight of this one."""
    for slot, shape in slots.items():
        if slot in SLOTS and SLOTS[slot].shape(weight) != shape:
            return slot, list(shape)
    return None


def _rebuilt(
    entries: Mapping[str, Mapping[str, Shape]],
    groups: Sequence[Sequence[str]],
    axes: ResidualAxes,
    parameters: Parameters | NamedParameters,
) -> dict[str, tuple[str, Shape]]:
    """The one order in use that fits all shapes; orders that move all tensors alike are one."""
    if not parameters.orders:
        raise ValueError("the state numbers its parameters, whose order is not known: give names")
    sizes = [len(group) for group in groups]
    keys = [key for group in groups for key in group]
    fitting: dict[tuple[Any, ...], dict[str, tuple[str, Shape]]] = {}
    nearest = f"{sum(sizes)} parameters in groups of {_joined(sizes)}"
    for order in parameters.orders:
        if [len(group) for group in order] != sizes:
            continue
        names = [name for group in order for name in group]
        named = {key: (n, parameters.shapes[n]) for key, n in zip(keys, names, strict=True)}
        odd = next((key for key in keys if _misfit(entries.get(key, {}), named[key][1])), None)
        if odd is not None:
            slot, shape = _misfit(entries[odd], named[odd][1]) or ("", [])
            name, wanted = named[odd]
            nearest = f"{slot} {shape} where {name} should be, {list(wanted)}"
            continue
        fitting.setdefault(tuple(axes.row(name).axes for name in names), named)
    if not fitting:
        kinds = "; ".join(
            dict.fromkeys(_joined([len(group) for group in order]) for order in parameters.orders)
        )
        raise ValueError(
            f"the state numbers its parameters, and in no order in use (groups of {kinds}) do they "
            f"fit the model: it has {nearest}; build the optimizer from model.named_parameters(), "
            "which writes names, or give names"
        )
    if len(fitting) > 1:
        one, other = list(fitting.values())[:2]
        key = next(
            key for key in keys if axes.row(one[key][0]).axes != axes.row(other[key][0]).axes
        )
        raise ValueError(
            f"the state numbers its parameters, and number {key} may be {one[key][0]} or "
            f"{other[key][0]}: both orders fit all shapes; give names"
        )
    return next(iter(fitting.values()))


def _joined(sizes: Iterable[int]) -> str:
    return " and ".join(map(str, sizes))
