"""What a config leaves out: transformers' own default for the model's type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with every field that it leaves out, or leaves null, as transformers fills it in.

    Config files as published leave out what their class has by default: SmolLM3 does not say that
    its embeddings are tied. A type that transformers does not know, or a config that its class
    does not take, comes back as it is; no code of the checkpoint is run.
    """
    try:
        from transformers import CONFIG_MAPPING
    except ModuleNotFoundError:
        return dict(config)
    if config.get("model_type") not in CONFIG_MAPPING:
        return dict(config)
    try:
        filled = CONFIG_MAPPING[config["model_type"]].from_dict(dict(config)).to_dict()
    except Exception:  # each class has checks, and errors, of its own
        return dict(config)
    return {**filled, **{key: value for key, value in config.items() if value is not None}}
