"""What wraps a model: told by its class, and by the names that it leaves in a state dict.

Classes are told by name, so that nothing is imported to ask: neither torch nor peft.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_INNER = {  # package and class, and the attribute that holds the model
    ("torch", "OptimizedModule"): "_orig_mod",
    ("torch", "DataParallel"): "module",
    ("torch", "DistributedDataParallel"): "module",
}
_FLAT = ("torch", "FullyShardedDataParallel")
_SHARDED = ("torch", "FSDPModule")
_PEFT = {("peft", "PeftModel"), ("peft", "PeftMixedModel")}

FULL = (
    "take its full state dict "
    "(torch.distributed.checkpoint.state_dict.get_model_state_dict with full_state_dict=True)"
)
"""Of a model whose parameters are shards."""

_MARKS = (  # in the names of tensors: how they got there, and what to take instead
    (
        r"(^|\.)_fsdp_wrapped_module\.",
        f"FSDP wraps the model: {FULL}",
    ),
    (
        r"^base_model\.model\.|\.(lora_\w+|base_layer|modules_to_save)(\.|$)",
        "PEFT keeps an adapter beside the weights: take those of model.merge_and_unload()",
    ),
    (r"(^|\.)_orig_mod\.", "torch.compile wraps the model: take those of model._orig_mod"),
    (
        r"^module\.",
        "DataParallel or DistributedDataParallel wraps the model: take those of model.module",
    ),
)


def unwrapped(model: Any, *, shards: bool = False) -> Any:
    """The transformers model inside torch.compile, DataParallel, DDP and PEFT; or what was given.

    A PEFT model is left with its adapters: its base model computes with them.

    Parameters
    ----------
    model
    shards : bool
        Whether a model whose parameters are shards (FSDP2, `torch.distributed.fsdp.fully_shard`) is
        given back as it is; else it is refused.

    Raises
    ------
    ValueError
        If no module inside computes what the wrapper does: under FSDP, and under PEFT methods that
        put tokens before the text.
    """
    while True:
        kinds = _kinds(type(model))
        if _FLAT in kinds:
            raise ValueError(
                "a model in FullyShardedDataParallel holds its weights in flat shards: shard it by "
                "torch.distributed.fsdp.fully_shard, or give the plain model"
            )
        if not shards and any(map(is_sharded, getattr(model, "modules", tuple)())):
            raise ValueError(
                "a model under FSDP holds shards of its weights: gather them, and give the plain "
                "model"
            )
        if kinds & _PEFT:
            for adapter in model.peft_config.values():
                if adapter.is_prompt_learning:
                    raise ValueError(
                        f"a PEFT model with {adapter.peft_type.value} reads tokens of its own "
                        "before the text, so its residual stream is not that of the text: give "
                        "its base model"
                    )
            model = model.get_base_model()
        elif kinds & _INNER.keys():
            model = getattr(model, next(_INNER[kind] for kind in kinds if kind in _INNER))
        else:
            return model


def is_sharded(model: Any) -> bool:
    """Whether `fully_shard` was called on this very module, which then has to be run by itself."""
    return _SHARDED in _kinds(type(model))


def own_class(module: Any) -> type:
    """The class of a module as it was before `fully_shard`, which puts one of its own before it."""
    return next(cls for cls in type(module).__mro__ if _SHARDED not in _kinds(cls))


def _kinds(kind: type) -> set[tuple[str, str]]:
    return {(cls.__module__.partition(".")[0], cls.__name__) for cls in kind.__mro__}


def wrapper_in(names: Iterable[str]) -> str | None:
    """What the names of tensors tell of a wrapper, and what to take instead; None if nothing."""
    listed = list(names)
    for mark, advice in _MARKS:
        if any(re.search(mark, name) for name in listed):
            return advice
    return None
