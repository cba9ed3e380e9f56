"""Signed-permutation gauges between transformer checkpoints.

The public names below are loaded on first use: importing bmatch imports NumPy and nothing
else, neither torch nor the GPU.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Assignment": "assignment",
    "Certificate": "assignment",
    "batch_linear_sum_assignment": "assignment",
    "certify": "assignment",
    "linear_sum_assignment": "assignment",
    "solve": "assignment",
}

if TYPE_CHECKING:
    from bmatch.assignment import (
        Assignment,
        Certificate,
        batch_linear_sum_assignment,
        certify,
        linear_sum_assignment,
        solve,
    )

__all__ = [
    "Assignment",
    "Certificate",
    "batch_linear_sum_assignment",
    "certify",
    "linear_sum_assignment",
    "solve",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bmatch' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"bmatch.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
