"""In which order optimizers number a model's parameters: their states bear integers, no names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch

from bmatch.architecture.wrappers import unwrapped

Shape: TypeAlias = tuple[int, ...]
Order: TypeAlias = tuple[tuple[str, ...], ...]
"""Names of parameters, group by group."""

PATTERNS = (r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)")
"""Of names that do not decay, in versions of transformers' Trainer before ``_norm`` was one."""


@dataclass(frozen=True)
class Parameters:
    """The parameters of a model, and the orders in which optimizers have them.

    Attributes
    ----------
    model : module
        With or without weights.
    """

    model: torch.nn.Module

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Of what is trained, each parameter once: tied weights bear the first of their names."""
        return {name: tuple(p.shape) for name, p in self._trained.items()}

    @cached_property
    def orders(self) -> tuple[Order, ...]:
        """All in one group; and in two, with and without weight decay.

        As transformers' Trainer makes them, in its present and earlier versions, and as loops do
        that go by numbers of axes. No group is empty.
        """
        trained = self._trained
        found: list[Order] = [(tuple(trained),)]
        for rule in _RULES:
            decayed = rule(self.model, trained)
            two = (
                tuple(name for name in trained if name in decayed),
                tuple(name for name in trained if name not in decayed),
            )
            found.append(tuple(group for group in two if group))
        return tuple(dict.fromkeys(found))

    @cached_property
    def _trained(self) -> dict[str, torch.nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}


@dataclass(frozen=True)
class NamedParameters:
    """The parameters of a model by other names, of which optimizers have no order in common.

    Attributes
    ----------
    shapes : dict of str to tuple of int
    """

    shapes: Mapping[str, Shape]
    orders: tuple[Order, ...] = ()


def parameters_of(model_or_config: Any) -> Parameters:
    """The parameters of a model that is given, or of one without weights, made of a config.

    Parameters
    ----------
    model_or_config
        A model, whose frozen parameters are left out; its transformers config; or the content of a
        ``config.json``.

    Raises
    ------
    ValueError
        If transformers makes no model of the config.
    """
    model = unwrapped(model_or_config)
    return Parameters(model if isinstance(model, torch.nn.Module) else _hollow(model))


def _hollow(config: Any) -> torch.nn.Module:
    import transformers

    try:
        if isinstance(config, Mapping):
            config = transformers.CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))
        named = getattr(transformers, (config.architectures or [""])[0], None)
        build: Any = getattr(named, "_from_config", transformers.AutoModelForCausalLM.from_config)
        with torch.device("meta"):
            model: torch.nn.Module = build(config)
    except Exception as error:  # each class has checks, and errors, of its own
        raise ValueError(
            f"transformers makes no model of the config, so the order of its parameters is not "
            f"known: {type(error).__name__}: {error}"
        ) from error
    return model


_Rule: TypeAlias = Callable[[torch.nn.Module, Mapping[str, torch.nn.Parameter]], set[str]]
"""Names of parameters that decay."""


def _installed(model: torch.nn.Module, trained: Mapping[str, Any]) -> set[str]:
    from transformers import Trainer

    rule: Any = Trainer.get_decay_parameter_names  # asks nothing of the trainer itself
    return set(rule(None, model))


def _by_patterns(model: torch.nn.Module, trained: Mapping[str, Any]) -> set[str]:
    return {
        name
        for name in trained
        if not _is_in(model, name, _layer_norms)
        and not any(re.search(pattern, name.lower()) for pattern in PATTERNS)
    }


def _by_norms(model: torch.nn.Module, trained: Mapping[str, Any]) -> set[str]:
    """In versions before patterns, where a class of norms was in a list that transformers kept."""
    return {n for n in trained if not _is_in(model, n, _any_norms) and "bias" not in n}


def _by_layer_norms(model: torch.nn.Module, trained: Mapping[str, Any]) -> set[str]:
    """The same, where the class was not in the list."""
    return {n for n in trained if not _is_in(model, n, _layer_norms) and "bias" not in n}


def _by_axes(model: torch.nn.Module, trained: Mapping[str, torch.nn.Parameter]) -> set[str]:
    return {name for name, parameter in trained.items() if parameter.ndim > 1}


_RULES: tuple[_Rule, ...] = (_installed, _by_patterns, _by_norms, _by_layer_norms, _by_axes)


def _layer_norms(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.LayerNorm)


def _any_norms(module: torch.nn.Module) -> bool:
    return type(module).__name__.endswith("Norm")


def _is_in(model: torch.nn.Module, name: str, kind: Callable[[torch.nn.Module], bool]) -> bool:
    """Whether a parameter lies in a module of a kind."""
    path, _, _ = name.rpartition(".")
    while path:
        if kind(model.get_submodule(path)):
            return True
        path, _, _ = path.rpartition(".")
    return False
