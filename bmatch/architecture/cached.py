"""Derived tables, kept in the user's cache folder: what took seconds is read the next time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bmatch._version import __version__
from bmatch.architecture.axes import ResidualAxes
from bmatch.architecture.stored import Stored, from_text, to_text
from bmatch.files.atomic import new_file
from bmatch.jobs.resume import user_cache


def cached(
    config: Mapping[str, Any], derive: Callable[[Mapping[str, Any]], ResidualAxes]
) -> ResidualAxes:
    """The table of a config: from this process, from the cache, or derived and kept.

    A cache that cannot be read or written is none.

    Parameters
    ----------
    config : mapping
        The content of a ``config.json``.
    derive : callable
        From a config to its table. Its errors are passed on, and not kept.
    """
    content = {key: value for key, value in config.items() if key != "_name_or_path"}
    return _cached(json.dumps(content, sort_keys=True, default=str), derive)


@cache
def _cached(content: str, derive: Callable[[Mapping[str, Any]], ResidualAxes]) -> ResidualAxes:
    path = _path(content)
    try:
        return from_text(path.read_text(encoding="utf-8")).table({})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # none there, or none that is whole
    text = to_text(_stored(derive(json.loads(content))))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError:
        pass
    return from_text(text).table({})


def _path(content: str) -> Path:
    """Where the table of a config is kept: by all that decides about it."""
    by = f"{_transformers()}\n{__version__}\n{_rules()}\n{content}"
    key = hashlib.sha256(by.encode()).hexdigest()
    return user_cache("tables") / f"{key}.json"


@cache
def _rules() -> str:
    """What stands for the rules by which tables are derived: their own text."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def _transformers() -> str:
    try:
        return version("transformers")
    except PackageNotFoundError:
        return ""


def _stored(table: ResidualAxes) -> Stored:
    return Stored(
        table.model_type,
        table.family,
        {word: str(size) for word, size in table.sizes.items()},
        structure={},
        equal=[],
        left_out={},
        null={},
        aliases={},
        spelled={},
        tied=table.tied,
        transformers=_transformers(),
        proved={},
    )
