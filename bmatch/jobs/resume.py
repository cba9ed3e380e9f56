"""Parts of a long job that are kept as they are done, so that it goes on where it was ended.

A part is known by the content of all that decides about it, never by names or dates: what changed
is done anew, and jobs that share parts find each other's.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt

from bmatch.files import tensor_file

Part: TypeAlias = tuple[dict[str, npt.NDArray[Any]], dict[str, str]]
"""Tensors by name, and a header."""


def user_cache(name: str) -> Path:
    """The folder of this name in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if os.path.isabs(home) else Path.home() / ".cache"
    return base / "bmatch" / name


def content_key(deciding: Mapping[str, Any]) -> str:
    """SHA-256 of what decides about a part, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


class KeptParts:
    """Small files in a folder, one a part, each whole or not there.

    Parameters
    ----------
    folder : path
        Made when the first part is kept.
    kind : str
        What a part is, as its file's header has it.
    """

    def __init__(self, folder: str | os.PathLike[str], kind: str) -> None:
        self._folder, self._kind = Path(folder), kind

    def get(self, key: str) -> Part | None:
        """The part of a key; None where there is none that is whole."""
        try:
            return tensor_file.read(self._path(key), self._kind)
        except (OSError, ValueError):
            return None

    def put(
        self, key: str, tensors: Mapping[str, npt.NDArray[Any]], header: Mapping[str, str]
    ) -> None:
        """Keep a part.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        tensor_file.write(self._path(key), self._kind, tensors, header)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.safetensors"
