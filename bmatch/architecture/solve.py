"""From a traced run to gauge spaces: unification, then GF(2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from bmatch.architecture.leaving import Leaving, by_small_operations
from bmatch.architecture.permutations import Slots, spaces
from bmatch.architecture.signs import odd_slots
from bmatch.architecture.spaces import Axes, Member, Space
from bmatch.architecture.trace import Trace


def spaces_of(model: torch.nn.Module, inputs: Mapping[str, Any]) -> Axes:
    """The gauge spaces of a small module on the CPU, from one run on these inputs."""
    return solved(traced(model, inputs), model)


def traced(model: torch.nn.Module, inputs: Mapping[str, Any]) -> Trace:
    """What one run of a small module on the CPU demands of a gauge."""
    trace = started(model)
    follow(trace, lambda: outputs(model(**inputs)))
    return trace


def started(model: torch.nn.Module) -> Trace:
    """A trace that knows a module's tensors, and has followed no run yet."""
    trace = Trace()
    for name, tensor in tensors(model).items():
        trace.labels.add_parameter(name, tensor)
    return trace


def follow(trace: Trace, run: Callable[[], Sequence[torch.Tensor]]) -> None:
    """Add what a run demands, of which the outputs have to stay; other weights are no matter."""
    with torch.no_grad():
        with trace, Leaving(trace), by_small_operations():
            kept = run()
        for tensor in kept:
            trace.require_unchanged(tensor)


def solved(trace: Trace, model: torch.nn.Module) -> Axes:
    """The gauge spaces that a run of a module leaves."""
    names = tensors(model)
    found = [_space(trace, names, slots) for slots in spaces(trace.constraints)]
    even = [space for space in found if space is not None]
    named_spaces = named(even, text_embeddings(model, names))
    return Axes(named_spaces, tuple(sorted(trace.unknown)), tuple(trace.labels.unread))


def text_embeddings(model: Any, names: Mapping[str, torch.Tensor]) -> str | None:
    """The embeddings of a model whose config holds others, of its text or of towers; else None."""
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "get_text_config") or config.is_encoder_decoder:
        return None
    holds = any(hasattr(part, "model_type") for part in vars(config).values())
    if config.get_text_config(decoder=True) is config and not holds:
        return None
    weight = model.get_input_embeddings().weight
    return next((name for name, tensor in names.items() if tensor is weight), None)


def named(found: Sequence[Space], embeddings: str | None = None) -> tuple[Space, ...]:
    """Spaces with names: that of the widest reach is the residual stream, others have a place.

    Where the name of a tensor of embeddings is given, the stream is the space that it carries.
    """
    spaces = sorted(found, key=lambda s: (-_blocks(s), -_reach(s), -len(s.members), -_entries(s)))
    stream = spaces[0] if spaces else None
    if embeddings is not None:
        holds = (s for s in spaces if any((m.tensor, m.axis) == (embeddings, 1) for m in s.members))
        stream = next(holds, None)
    taken: dict[str, int] = {}
    result = []
    for space in spaces:
        name = "residual" if space is stream and _reach(space) > 1 else _place(space)
        taken[name] = taken.get(name, 0) + 1
        suffix = f" {taken[name]}" if taken[name] > 1 else ""
        result.append(replace(space, name=name + suffix))
    return tuple(result)


def _blocks(space: Space) -> int:
    """In how many numbered modules a space has parameters."""
    found = (re.match(r".*?\.\d+(?=\.)", member.tensor) for member in space.members)
    return len({match[0] for match in found if match})


def _entries(space: Space) -> int:
    """How many entries of axes move with a space: more with heads than with what lies in one."""
    return sum(space.size * len(member.offsets) for member in space.members)


def _reach(space: Space) -> int:
    """In how many layers, and modules outside of layers, a space has parameters."""
    names = (member.tensor for member in space.members)
    return len({re.split(r"(?<=\.\d)\.|(?<=\.\d\d)\.|\.(?=[^.]*$)", name)[0] for name in names})


def _place(space: Space) -> str:
    """Where the parameters are, and what the units of a space are."""
    parts = [member.tensor.split(".")[:-1] for member in space.members]
    common = [names[0] for names in zip(*parts, strict=False) if len(set(names)) == 1]
    single = all(len(member.offsets) == 1 for member in space.members)
    slabs = any(member.slab is not None for member in space.members)
    kind = "coordinates" if single else "blocks"
    return ".".join(common) + (f" {kind} of a slab" if slabs else f" {kind}")


def tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters, and buffers that a checkpoint keeps; a tied tensor once."""
    kept = set(model.state_dict())
    buffers = {
        name: buffer
        for name, buffer in model.named_buffers()
        if name in kept and buffer.is_floating_point()
    }
    return {**dict(model.named_parameters()), **buffers}


def outputs(out: Any) -> list[torch.Tensor]:
    """What has to stay as it is of what a model returns.

    Its logits, of entities as well, where it has any. A model without a head returns its stream,
    which moves with a gauge: the inner products between positions stay. All tensors of other
    modules.

    Raises
    ------
    ValueError
        If there are none.
    """
    if isinstance(out, Mapping):
        if out.get("logits") is not None:
            return [out[name] for name in ("logits", "entity_logits") if out.get(name) is not None]
        states = [state.flatten(0, -2) for state in _floating(out.values()) if state.ndim > 1]
        found = [state @ state.T for state in states]
    else:
        found = _floating([out] if isinstance(out, torch.Tensor) else out)
    if not found:
        raise ValueError("the model returns no tensor whose numbers have to stay as they are")
    return found


def _floating(values: Iterable[Any]) -> list[torch.Tensor]:
    return [v for v in values if isinstance(v, torch.Tensor) and v.is_floating_point()]


def _space(trace: Trace, names: Mapping[str, torch.Tensor], slots: Slots) -> Space | None:
    """A space of the constraints with its signs; None if its entries do not lie evenly."""
    c = trace.constraints
    axes = [c.axes[axis] for axis in slots.axes]
    gains = frozenset(k for k, axis in enumerate(axes) if axis.parameter in trace.labels.gains)
    group, odd = odd_slots(c, slots, gains)
    members = []
    for axis in dict.fromkeys(axes):
        columns = [k for k, other in enumerate(axes) if other == axis]
        places = c.place_of(slots.atoms[:, columns])
        member = Member(
            axis.parameter,
            axis.dim,
            axis.slab,
            tuple((places[1] - places[0]).tolist()),
            tuple(places[0].tolist()),
            tuple(odd[k] for k in columns),
        )
        if not np.array_equal(member.entries(len(places)), places):
            return None
        members.append(member)
    return Space("", group, len(slots.atoms), _over_slabs(members, names))


def _over_slabs(members: Sequence[Member], names: Mapping[str, torch.Tensor]) -> tuple[Member, ...]:
    """One member for all slabs of a tensor that carry a space in the same way."""
    alike: dict[Member, list[Member]] = {}
    for member in members:
        alike.setdefault(replace(member, slab=None), []).append(member)
    result: list[Member] = []
    for whole, slabs in alike.items():
        every = len(slabs) == names[whole.tensor].shape[0] and slabs[0].slab is not None
        result += [whole] if every else slabs
    return tuple(result)
