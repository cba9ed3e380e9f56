"""From the type of a model to its table of residual axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bmatch.architecture.axes import Family, ResidualAxes
from bmatch.architecture.defaults import WithDefaults, is_known
from bmatch.architecture.families.llama import LLAMA
from bmatch.architecture.wrappers import unwrapped

RMSNORM_TABLES: Mapping[str, Family] = {
    "llama": LLAMA,  # SmolLM and SmolLM2 are of this type
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "smollm3": LLAMA,
}


def residual_axes(model_or_config: Any) -> ResidualAxes:
    """The table of residual axes for a model.

    Parameters
    ----------
    model_or_config
        A transformers model, its config, or the content of a ``config.json``; what that leaves out
        is as transformers' config class has it.

    Raises
    ------
    ValueError
        If the architecture is not in the table and none can be derived for it, the config is
        damaged, or the model is wrapped in something that hides its weights.

    Notes
    -----
    Types that are not in the table are those of the installed transformers: their table is derived
    from the config by one traced run of a tiny model (`derive`), once in a process.
    """
    model = unwrapped(model_or_config)
    config = getattr(model, "config", model)
    config = WithDefaults(config) if isinstance(config, Mapping) else config.to_dict()
    model_type: Any = config.get("model_type")
    if model_type not in RMSNORM_TABLES:
        if not is_known(model_type):
            raise ValueError(
                f"unknown architecture {model_type!r}: bmatch has tables for "
                f"{', '.join(sorted(RMSNORM_TABLES))}, and derives them for the types of the "
                "installed transformers"
            )
        from bmatch.architecture.derived import derived_axes  # imports torch

        return derived_axes(config)
    family = RMSNORM_TABLES[model_type]
    sizes = family.sizes(config)
    for word, key in family.keys.items():
        if word not in sizes:
            raise ValueError(f"the config of this {model_type} is damaged: it has no {key}")
    return ResidualAxes(model_type, family, sizes, bool(config.get("tie_word_embeddings", False)))
