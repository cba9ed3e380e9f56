"""The table of a model of a type without one: derived from its config, and proved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from bmatch.architecture.axes import HEADS, Family, ResidualAxes, Rule, numberless
from bmatch.architecture.deriving import derivation
from bmatch.architecture.saved import saved_rules
from bmatch.architecture.spaces import Axes, Member, Space


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
    return _derived(json.dumps(dict(config), sort_keys=True, default=str))


@cache
def _derived(written: str) -> ResidualAxes:
    from transformers import CONFIG_MAPPING

    content = json.loads(written, object_hook=_as_float)
    model_type = content["model_type"]
    try:
        config = CONFIG_MAPPING[model_type].from_dict(content)
        found = derivation(config)
    except Exception as error:  # each class has checks, and errors, of its own
        raise ValueError(
            f"no table could be derived for {model_type}: {type(error).__name__}: {error}"
        ) from error
    return table_of(found.axes, config, found.full, found.tiny)


def table_of(
    axes: Axes, config: Any, model: torch.nn.Module, tiny: torch.nn.Module
) -> ResidualAxes:
    """The residual stream's part of derived axes as a table for tensors by their names.

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
    model_type = config.model_type
    if axes.unread:
        raise ValueError(
            f"the run that derived the table for {model_type} did not read {axes.unread[0]}, so "
            "where it carries the stream is not known"
        )
    stream = axes.residual
    if stream is None:
        without = f": there is no rule for {', '.join(axes.unknown)}" if axes.unknown else ""
        raise ValueError(f"no gauge of {model_type}'s residual stream was found{without}")
    text = config.get_text_config(decoder=True)
    layers = getattr(text, "num_hidden_layers", 0)
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    rules = _rules(model, stream, model_type, prefix)
    saved = saved_rules(tiny, {rule.name: rule for rule in rules})
    once = dict(model.named_parameters())  # a tied tensor comes once
    heads = [name for name in once if not name.startswith(prefix) and numberless(name) not in saved]
    rules = [
        replace(rule, required=False) if numberless(rule.name) in saved else rule for rule in rules
    ]
    rules += [rule for rule in saved.values() if rule is not None]
    known = {rule.name for rule in rules}
    rules += [rule for rule in HEADS if rule.name not in known]
    return ResidualAxes(
        model_type,
        Family(
            rules=tuple(rules),
            sizes=lambda _: {},
            keys={},
            blocks=_blocks(model.base_model, layers),
            prefix=prefix,
            heads=tuple(heads),
            norm="RMSNorm" if stream.group == "signed_permutation" else "LayerNorm",
            group=stream.group,
        ),
        {"D": stream.size, "L": layers, "V": text.vocab_size},
        bool(getattr(text, "tie_word_embeddings", False)),
    )


def _as_float(content: dict[str, Any]) -> Any:
    """Infinities and NaN stand in config files as objects of one key."""
    return float(content["__float__"]) if content.keys() == {"__float__"} else content


def _rules(model: torch.nn.Module, stream: Space, model_type: str, prefix: str) -> list[Rule]:
    """One for each tensor of a model, in its sizes."""
    members: dict[str, list[Member]] = {}
    for member in stream.members:
        if (member.slab, member.stride, member.offsets) != (None, 1, (0,)):
            raise ValueError(
                f"the residual stream of {model_type} lies in parts of {member.tensor}, which is "
                "no whole axis"
            )
        members.setdefault(member.tensor, []).append(member)

    first: dict[int, str] = {}  # of the names that one tensor has
    rules = []
    for name, tensor in model.state_dict(keep_vars=True).items():
        shared = first.setdefault(id(tensor), name)
        words = [str(size) for size in tensor.shape]
        for member in members.get(name if name in members else shared, []):
            words[member.axis] = "D" if member.odd[0] else "+D"
        required = shared == name and name.startswith(prefix)
        rules.append(Rule(name, " ".join(words), required))
    return rules


def _blocks(base: Any, count: int) -> str:
    """Where the list of blocks is; empty if there is not exactly one of that length."""
    found = [
        name
        for name, module in base.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == count
    ]
    return found[0] if len(found) == 1 else ""
