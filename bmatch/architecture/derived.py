"""The table of a model of any type: derived from its config, and proved."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from bmatch.architecture.axes import ResidualAxes
from bmatch.architecture.deriving import auto_class, derivation, of_changed, proved_spaces
from bmatch.architecture.describing import Carried, Cut, Lengths, Split, described, splitter
from bmatch.architecture.rules import HEADS, RESIDUAL, Family, Kind, Rule
from bmatch.architecture.saved import saved_rules
from bmatch.architecture.spaces import Axes, Space
from bmatch.architecture.templates import numberless


def derived_axes(config: Mapping[str, Any]) -> ResidualAxes:
    """Where the tensors of a model carry its residual stream, as a traced run has it.

    Parameters
    ----------
    config : mapping
        The content of a ``config.json``. What it leaves out is as transformers' class has it; no
        code of the checkpoint is run, and no weights are read or made.

    Raises
    ------
    ValueError
        If transformers does not know the type, or no model of it can be made tiny; or the stream
        has no gauge, or lies in a tensor in a way that rules do not tell.
    """
    from transformers import CONFIG_MAPPING

    content = json.loads(json.dumps(dict(config), default=str), object_hook=_as_float)
    model_type = content["model_type"]
    try:
        full = CONFIG_MAPPING[model_type].from_dict(content)
        found = derivation(full)
    except Exception as error:  # each class has checks, and errors, of its own
        raise ValueError(
            f"no table could be derived for {model_type}: {cause_of(error, model_type, content)}"
        ) from error
    return table_of(found.axes, full, found.full, found.tiny)


def cause_of(error: Exception, model_type: str, content: Mapping[str, Any]) -> str:
    """Why there are no spaces: that transformers itself makes no model of a config, or an error.

    Parameters
    ----------
    error : Exception
        Of making a small model, or of a run of it.
    model_type : str
    content : mapping
        Of the config.
    """
    from transformers import CONFIG_MAPPING

    cause = " ".join(f"{type(error).__name__}: {error}".split())
    try:
        config = CONFIG_MAPPING[model_type].from_dict(dict(content))
        build = auto_class(config).from_config
        with torch.device("meta"):
            build(config)
    except Exception:  # each class has checks, and errors, of its own
        return f"transformers makes no model of this config ({cause})"
    return cause


def changed_axes(model: Any) -> ResidualAxes | None:
    """The table of a model of transformers that computes something else than its type does.

    None if it does not, and the table of its config is its own.

    Raises
    ------
    ValueError
        As `derive` and `table_of`.
    """
    found = of_changed(model)
    return None if found is None else table_of(found.axes, model.config, found.full, found.tiny)


def table_of(
    axes: Axes, config: Any, model: torch.nn.Module, tiny: torch.nn.Module
) -> ResidualAxes:
    """Derived axes as a table for tensors by their names, with sizes as numbers.

    Parameters
    ----------
    axes : Axes
        Of `model`.
    config
        Of `model`, a transformers config.
    model, tiny : module
        On any device, weights or none; and a small one of the same structure, on the CPU.

    Raises
    ------
    ValueError
        If the stream has no gauge, lies in a tensor in a way that rules do not tell, or a tensor is
        unread.
    """
    text = config.get_text_config(decoder=True)
    layers = getattr(text, "num_hidden_layers", 0)
    blocks = blocks_of(model.base_model, layers)
    path = prefix_of(model) + blocks
    lengths = {name: [str(n) for n in tensor.shape] for name, tensor in model.state_dict().items()}
    family = family_of(
        axes,
        model,
        tiny,
        blocks=blocks,
        lists=((path, "L"),) if blocks else (),
        split=splitter((path,) if blocks else (), ()),
        lengths=lengths,
        size=lambda space, _: str(space.size),
        cut=lambda _template, _axis, numbers: [str(number) for number in numbers],
    )
    return ResidualAxes(
        config.model_type,
        family,
        {"D": axes.residual.size if axes.residual else 0, "L": layers, "V": text.vocab_size},
        bool(getattr(text, "tie_word_embeddings", False)),
    )


def family_of(
    axes: Axes,
    model: Any,
    tiny: torch.nn.Module,
    *,
    blocks: str,
    lists: tuple[tuple[str, str], ...],
    split: Split,
    lengths: Lengths,
    size: Callable[[Space, Sequence[Carried]], str | None],
    cut: Cut,
) -> Family:
    """What rules say of a model: see `described` and `Family`.

    Raises
    ------
    ValueError
        As `table_of`.
    """
    model_type = model.config.model_type
    sizes = {name: max(tensor.shape, default=1) for name, tensor in model.state_dict().items()}
    unread = [name for name in axes.unread if sizes.get(name, 2) > 1]  # one number carries nothing
    if unread:
        raise ValueError(
            f"the run that derived the table for {model_type} did not read {unread[0]}, so where "
            "it carries the stream is not known"
        )
    if axes.residual is None:
        raise ValueError(f"no gauge of {model_type}'s residual stream was found: {_reason(axes)}")
    prefix = prefix_of(model)
    named = model.state_dict(keep_vars=True)
    first: dict[int, str] = {}  # of the names that one tensor has
    shared = {name: first.setdefault(id(tensor), name) for name, tensor in named.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in named.items()}
    found = described(_under_all_names(axes, shared), shapes, split, lengths, size, cut)
    required = {name for name in named if shared[name] == name and name.startswith(prefix)}
    instances: dict[str, list[str]] = {}
    for name in named:
        instances.setdefault(split(name)[0], []).append(name)
    most = {
        path: len({s[1] for s in map(split, named) if s[0].startswith(path + ".{layer}")})
        for path, _ in lists
    }
    rules = [
        replace(rule, required=_is_required(rule.name, instances, required, most))
        for rule in found.rules
    ]
    saved = saved_rules(tiny, {rule.name: rule for rule in rules})
    once = dict(model.named_parameters())  # a tied tensor comes once
    heads = [name for name in once if not name.startswith(prefix) and numberless(name) not in saved]
    rules = [
        replace(rule, required=False) if numberless(rule.name) in saved else rule for rule in rules
    ]
    rules += [
        replace(rule, name=_with_layers(rule.name, [path for path, _ in lists]))
        for rule in saved.values()
        if rule is not None
    ]
    rules += pooled(tiny, prefix)
    known = {rule.name for rule in rules}
    rules += [rule for rule in HEADS if rule.name not in known]
    group = axes.residual.group
    beside = [name for name in found.left_out if not name.startswith(RESIDUAL)]
    return Family(
        rules=tuple(rules),
        kinds=(Kind("D", RESIDUAL, group, "D"), *found.kinds),
        lists=lists,
        blocks=blocks,
        prefix=prefix,
        heads=tuple(heads),
        norm="RMSNorm" if group == "signed_permutation" else "LayerNorm",
        unknown=axes.unknown,
        refuted=axes.refuted,
        left_out=(
            *axes.unmapped,
            *(f"{kind}: {_SILENT}" for kind in dict.fromkeys(map(numberless, axes.alike))),
            *(f"{kind}: it lies beside others" for kind in dict.fromkeys(map(numberless, beside))),
        ),
    )


_SILENT = "no run has read all of its slabs, and those carry the stream as the others do"


def pooled(tiny: Any, prefix: str) -> list[Rule]:
    """Rules for what the base model has by itself and not below a head: a pooler.

    Parameters
    ----------
    tiny : module
        A small model of the structure.
    prefix : str
        Of its base model's tensors.
    """
    base, config = type(tiny.base_model), tiny.base_model.config
    names = {name.removeprefix(prefix) for name in tiny.state_dict()}
    with torch.device("meta"):
        shapes = {n: tuple(t.shape) for n, t in base(config).state_dict().items()}
    alone = sorted(shapes.keys() - names)
    if base is type(tiny) or not alone:
        return []
    stream = proved_spaces(base(config).float().eval())[0].residual
    carried = {(m.tensor, m.axis): m for m in (stream.members if stream is not None else ())}
    found = []
    for name in alone:
        ways = [carried.get((name, axis)) for axis in range(len(shapes[name]))]
        words = ["any" if m is None else "D" if m.odd[0] else "+D" for m in ways]
        found.append(Rule(prefix + name, " ".join(words), required=False))
    return found


def _reason(axes: Axes) -> str:
    """Why no space reaches all layers."""
    if axes.unknown:
        return f"there is no rule for {', '.join(axes.unknown)}"
    spaces = (*axes.refuted, *axes.unmapped)
    dropped = [told for told in spaces if told.startswith(f"{RESIDUAL}:")]
    return dropped[0] if dropped else "what the model computes fixes its coordinates"


def prefix_of(model: Any) -> str:
    """What the names of the base model's tensors begin with in a model with a head."""
    return "" if model.base_model is model else f"{model.base_model_prefix}."


def _under_all_names(axes: Axes, shared: Mapping[str, str]) -> Axes:
    """Spaces with a member for each name that a tensor has."""
    names: dict[str, list[str]] = {}
    for name, one in shared.items():
        names.setdefault(one, []).append(name)
    spaces = [
        replace(
            space,
            members=tuple(
                replace(member, tensor=name)
                for member in space.members
                for name in names[shared[member.tensor]]
            ),
        )
        for space in axes.spaces
    ]
    return replace(axes, spaces=tuple(spaces))


def _is_required(
    template: str,
    instances: Mapping[str, list[str]],
    required: set[str],
    layers: Mapping[str, int],
) -> bool:
    """Whether every block has the tensor, and a whole model has that of every block."""
    if "{}" in template:
        return False
    names = instances.get(template, [template])
    count = layers.get(template.partition(".{layer}")[0], 1) if "{layer}" in template else 1
    return len(names) == count and required.issuperset(names)


def _with_layers(name: str, paths: Sequence[str]) -> str:
    for path in paths:
        if name.startswith(f"{path}.{{}}."):
            return name.replace(f"{path}.{{}}", f"{path}.{{layer}}", 1)
    return name


def _as_float(content: dict[str, Any]) -> Any:
    """Infinities and NaN stand in config files as objects of one key."""
    return float(content["__float__"]) if content.keys() == {"__float__"} else content


def blocks_of(base: Any, count: int) -> str:
    """Where the list of blocks is; empty if there is not exactly one of that length."""
    found = [
        name
        for name, module in base.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == count
    ]
    return found[0] if len(found) == 1 else ""
