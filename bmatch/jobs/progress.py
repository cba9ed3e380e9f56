"""How long jobs let their caller see how far they have come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

Progress: TypeAlias = Callable[[Sequence[Any], str], Iterable[Any]]
"""Called as ``progress(items, description)``; returns an iterable over the items. tqdm does:
``lambda items, description: tqdm(items, desc=description)``."""


def silent(items: Sequence[Any], _description: str) -> Iterable[Any]:
    """Shows nothing."""
    return items
