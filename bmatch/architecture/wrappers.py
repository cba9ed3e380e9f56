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
_FSDP = {("torch", "FullyShardedDataParallel"), ("torch", "FSDPModule")}
_PEFT = {("peft", "PeftModel"), ("peft", "PeftMixedModel")}

_MARKS = (  # in the names of tensors: how they got there, and what to take instead
    (
        r"(^|\.)_fsdp_wrapped_module\.",
        "FSDP wraps the model: take its full state dict "
        "(torch.distributed.checkpoint.state_dict.get_model_state_dict with full_state_dict=True)",
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


def unwrapped(model: Any) -> Any:
    """The transformers model inside torch.compile, DataParallel, DDP and PEFT; or what was given.

    A PEFT model is left with its adapters: its base model computes with them.

    Raises
    ------
    ValueError
        If no module inside computes what the wrapper does: under FSDP, whose parameters are
        shards, and under PEFT methods that put tokens before the text.
    """
    while True:
        kinds = {(cls.__module__.partition(".")[0], cls.__name__) for cls in type(model).__mro__}
        if kinds & _FSDP:
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


def wrapper_in(names: Iterable[str]) -> str | None:
    """What the names of tensors tell of a wrapper, and what to take instead; None if nothing."""
    listed = list(names)
    for mark, advice in _MARKS:
        if any(re.search(mark, name) for name in listed):
            return advice
    return None
