"""What a config leaves out: transformers' own default for the model's type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any


def is_known(model_type: Any) -> bool:
    """Whether the installed transformers, if there is one, has a config class for this type."""
    try:
        from transformers import CONFIG_MAPPING
    except ModuleNotFoundError:
        return False
    return isinstance(model_type, str) and model_type in CONFIG_MAPPING


class WithDefaults(Mapping[str, Any]):
    """A config in which every field left out, or left null, is as transformers fills it in.

    Config files as published leave out what their class has by default: SmolLM3 does not say that
    its embeddings are tied. The class is asked when a field is missed for the first time, since
    importing it takes a second. A type that transformers does not know, or a config that its class
    does not take, has no defaults; no code of the checkpoint is run.
    """

    def __init__(self, written: Mapping[str, Any]) -> None:
        self._written = written

    @cached_property
    def _filled(self) -> Mapping[str, Any]:
        model_type: Any = self._written.get("model_type")
        if not is_known(model_type):
            return {}
        from transformers import CONFIG_MAPPING

        try:
            filled: dict[str, Any] = (
                CONFIG_MAPPING[model_type].from_dict(dict(self._written)).to_dict()
            )
        except Exception:  # each class has checks, and errors, of its own
            return {}
        return filled

    def __getitem__(self, key: str) -> Any:
        value = self._written.get(key)
        return self._filled[key] if value is None else value

    def __iter__(self) -> Iterator[str]:
        return iter({**self._filled, **self._written})

    def __len__(self) -> int:
        return len({**self._filled, **self._written})
