"""Parts of a long job that are kept as they are done, so that it goes on where it was ended.

A part is known by the content of all that decides about it, never by names or dates: what changed
is done anew, and jobs that share parts find each other's.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
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
    tell : callable, optional
        Is given a sentence where a part cannot be kept. Default: it is a warning.

    Attributes
    ----------
    folder : Path
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        kind: str,
        tell: Callable[[str], object] = warnings.warn,
    ) -> None:
        self.folder, self._kind, self._tell = Path(folder), kind, tell
        self._told: set[str] = set()

    def get(self, key: str) -> Part | None:
        """The part of a key; None where there is none that is whole."""
        try:
            return tensor_file.read(self._path(key), self._kind)
        except (OSError, ValueError):
            return None

    def keep(
        self, key: str, tensors: Mapping[str, npt.NDArray[Any]], header: Mapping[str, str]
    ) -> None:
        """Keep a part in place of an earlier one of its key, all or nothing.

        A folder that is gone is made anew. One that is full, read-only or removed as fast as it is
        made costs the part and not the job: it is told once, and tried again with the next part.
        """
        path = Path(os.path.realpath(self._path(key)))  # as sentences have it
        try:
            with suppress(FileNotFoundError):  # it was removed in the middle
                return self._write(path, tensors, header)
            self._write(path, tensors, header)
        except FileNotFoundError:
            a_file = os.path.isfile(self.folder)
            self._tell_once(os.strerror(errno.ENOTDIR if a_file else errno.ENOENT))
        except OSError as error:
            self._tell_once(error.strerror or str(error).replace(f"{path} ", ""))

    def _write(
        self, path: Path, tensors: Mapping[str, npt.NDArray[Any]], header: Mapping[str, str]
    ) -> None:
        with suppress(FileExistsError):  # it was there, and is not any more
            self.folder.mkdir(parents=True, exist_ok=True)
        tensor_file.write(path, self._kind, tensors, header)

    def _tell_once(self, reason: str) -> None:
        if reason not in self._told:
            self._told.add(reason)
            self._tell(
                f"how far it has come cannot be kept in {self.folder} ({reason}): the job goes "
                "on, and does again what was not kept if it is ended"
            )

    def forget(self, key: str) -> None:
        """Remove a part, if it is there and lets itself be removed."""
        with suppress(OSError):
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"


class KeptState:
    """How far a job has come, kept now and then: one part, which the next one replaces.

    Parameters
    ----------
    parts : KeptParts
    key : str
        Of all that decides about the job.
    every : float
        Minutes from one time to the next.
    """

    def __init__(self, parts: KeptParts, key: str, every: float) -> None:
        self._parts, self._key, self._every = parts, key, every
        self._last = time.monotonic()

    def load(self) -> Part | None:
        """What an earlier job has kept; None where that is nothing whole."""
        return self._parts.get(self._key)

    @property
    def due(self) -> bool:
        """Whether it is time."""
        return time.monotonic() - self._last >= 60 * self._every

    def save(self, tensors: Mapping[str, npt.NDArray[Any]], header: Mapping[str, str]) -> None:
        """Keep a state in place of the one before it: see `KeptParts.keep`."""
        self._parts.keep(self._key, tensors, header)
        self._last = time.monotonic()

    def forget(self) -> None:
        """To be called once the job's result is written."""
        self._parts.forget(self._key)
