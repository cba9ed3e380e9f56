"""Which types of models the installed transformers has config classes for."""

from __future__ import annotations

from typing import Any


def is_known(model_type: Any) -> bool:
    """Whether the installed transformers, if there is one, has a config class for this type."""
    try:
        from transformers import CONFIG_MAPPING
    except ModuleNotFoundError:
        return False
    return isinstance(model_type, str) and model_type in CONFIG_MAPPING
