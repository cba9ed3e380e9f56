"""What somebody has changed of a model of transformers after its class made it.

A tiny copy is made by the class from the config, and would compute without the change.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from bmatch.architecture.wrappers import own_class

_OWN = ("transformers.", "accelerate.", "torch.distributed.fsdp.")
"""Whose hooks record, or move tensors between devices and processes, and compute nothing."""

FORMS = ("peft.", "bitsandbytes.", "torchao.", "hqq.", "gptqmodel.", "compressed_tensors.")
"""Whose modules are a linear map in another form: with an adapter, of few bits."""


def altered(
    model: torch.nn.Module, plain: torch.nn.Module, *, forms: tuple[str, ...] = ()
) -> str | None:
    """The first part of a model that is another than in one that its class makes of its config.

    Modules of other classes, methods of one module alone, hooks, modules that have come in. Modules
    that are gone, as layers that were pruned, are no change of those that are left.

    Parameters
    ----------
    model, plain : module
        On any device, weights or none.
    forms : tuple of str
        Packages whose modules are no change, nor what is in them.
    """
    made = dict(plain.named_modules())
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if forms and f"{type(module).__module__}.".startswith(forms):
            inside += (f"{name}.",)
            continue
        if inside and name.startswith(inside):
            continue
        title = name or "the model"
        kind, other = own_class(module).__name__, type(made.get(name)).__name__
        if name not in made:
            return f"{title}, a {kind}, has been put in"
        if own_class(module) is not type(made[name]):
            if kind == other:
                kind = f"{own_class(module).__module__}.{kind}"
            return f"{title} is a {kind} in place of a {other}"
        for method in _methods(module):
            if method not in vars(made[name]):
                return f"{title}, a {kind}, has a {method} of its own"
        if any(not _is_harmless(hook) for hook in _hooks(module)):
            return f"{title}, a {kind}, has a hook"
    return None


def is_from_elsewhere(model: torch.nn.Module, *, forms: tuple[str, ...] = ()) -> bool:
    """Whether code of others than torch and transformers computes a part of a model.

    It may be written for one size: a slice of half of the width is all of a tiny model's.
    """
    kinds: set[Any] = {own_class(module) for module in model.modules()}
    made = {where for kind in kinds for where in (kind.__module__, kind.forward.__module__)}
    return not all(f"{where}.".startswith(("torch.", "transformers.", *forms)) for where in made)


def _methods(module: torch.nn.Module) -> Iterator[str]:
    """What an instance has in place of its class's methods."""
    if hasattr(module, "_hf_hook"):  # accelerate's, which calls the method that was there
        return
    for name, value in vars(module).items():
        if callable(value) and callable(getattr(type(module), name, None)):
            yield name


def _hooks(module: torch.nn.Module) -> Iterator[Any]:
    yield from module._forward_pre_hooks.values()
    yield from module._forward_hooks.values()


def _is_harmless(hook: Any) -> bool:
    return str(getattr(hook, "__module__", "")).startswith(_OWN)
