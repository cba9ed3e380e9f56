"""Rows of streams in arrays of zarr, formats 2 and 3, read some chunks at a time.

Chunks are compressed, each as a whole. So rows come in ranges of whole chunks, of which the last
stays in memory: a batch that is smaller than a chunk does not unpack it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bmatch.models.stored_pieces import Found, Piece, rows_of

_MARKS = (".zarray", ".zgroup", "zarr.json")
_AT_ONCE = 1024  # rows, if a chunk has fewer: each access has its price


def is_zarr(path: Path) -> bool:
    """Whether a folder is an array or a group."""
    return any((path / mark).is_file() for mark in _MARKS)


def pieces_of_zarr(name: str, path: Path) -> Iterator[Found]:
    """An array, by this name, or the arrays of a group, by their own, in whichever group of it.

    Raises
    ------
    ValueError
        If it is damaged, not all of it was written, or zarr is not installed.
    """
    zarr = _zarr(path)
    try:
        node = zarr.open(path, mode="r")
        if isinstance(node, zarr.Array):
            if node.ndim < 2 or not _read(node):
                raise ValueError(
                    f"it is {node.dtype} of shape {node.shape}, and activations are floats [T, D] "
                    "or [sequences, L, D]"
                )
            yield Found(name, _piece(path, node))
            return
        for inside, array in sorted(node.members(max_depth=None)):
            if isinstance(array, zarr.Array) and array.ndim > 1 and _read(array):
                yield Found(inside, _piece(path / inside, array))
    except Exception as error:
        raise _refusal(path, error) from None


@dataclass(frozen=True, eq=False)
class _Chunked(Piece):
    array: Any
    at_once: int  # entries of its first axis, whole chunks
    _held: dict[int, npt.NDArray[Any]] = field(default_factory=dict)

    def values(self, first: int, count: int) -> npt.NDArray[Any]:
        step = self.at_once * max(1, self.rows // max(1, self.array.shape[0]))  # rows
        parts = []
        for number in range(first // step, (first + count - 1) // step + 1):
            begin = number * step
            rows = self._range(number)
            parts.append(rows[max(0, first - begin) : first + count - begin])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _range(self, number: int) -> npt.NDArray[Any]:
        if number not in self._held:
            self.let_go()
            start = number * self.at_once
            try:
                found = np.asarray(self.array[start : start + self.at_once])
            except Exception as error:
                raise _refusal(self.path, error) from None
            self._held[number] = np.ascontiguousarray(found, self.dtype).reshape(-1, self.dim)
        return self._held[number]

    @property
    def held_bytes(self) -> int:
        entries: int = min(self.at_once, self.array.shape[0])
        return entries * int(np.prod(self.array.shape[1:])) * np.dtype(self.dtype).itemsize

    def let_go(self) -> None:
        self._held.clear()


def _zarr(path: Path) -> Any:
    try:
        import zarr
    except ImportError:
        pass
    else:
        if hasattr(zarr, "AsyncArray"):
            return zarr
    raise ValueError(f"{path} is read by zarr 3 or newer, which is not installed: pip install zarr")


def _read(array: Any) -> bool:
    return bool(array.dtype.kind == "f")


def _piece(path: Path, array: Any) -> Piece:
    missing = array.nchunks - array.nchunks_initialized
    if missing:
        raise ValueError(
            f"{missing} of {array.nchunks} chunks of {path.name} are missing: were all numbers "
            "written?"
        )
    rows, sequence = rows_of(array.shape)
    chunk = array.chunks[0]
    at_once = chunk * max(1, _AT_ONCE * array.shape[0] // max(1, rows * chunk))
    given = path, array.dtype.str, False, rows, array.shape[-1], sequence
    return _Chunked(*given, array, at_once)


def _refusal(path: Path, error: Exception) -> Exception:
    """Of zarr and its codecs, which raise errors of many kinds."""
    if isinstance(error, MemoryError):
        return error
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ValueError(f"{path} cannot be read as zarr: {said}")
