"""A safetensors file with its tensors transformed, one of them in memory at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

from bmatch.taking import Taken

_TURN = 1 << 22
"""Bytes that a thread makes and writes before it takes other ones."""
_MOST_THREADS = 3
"""They write one after another, as file systems would have it, and make pieces meanwhile."""


def copy_safetensors(
    path: str | os.PathLike[str],
    out: Path,
    transform: Callable[[str, Any], Any],
    header: Callable[[dict[str, str]], dict[str, str]] = dict,
) -> None:
    """Write a file again: names, order, shapes and dtypes as they are, and other entries.

    Parameters
    ----------
    path, out : path
        The file to read, and the one to write.
    transform : callable
        Takes a name and a torch tensor on the CPU, not to be changed; returns one of its shape and
        dtype, or `Taken` from it. Called in the order in which the tensors lie in the file.
    header : callable, optional
        From the header's metadata to those of the new file; by default they stay.

    Raises
    ------
    ValueError
        If the file is damaged.
    OSError
        If `out` cannot be written.
    """
    import torch
    from safetensors import safe_open

    entries = entries_of(path)
    turns = Lock()
    with (
        safe_open(path, framework="pt") as file,
        open(out, "wb", buffering=0) as written,
        ThreadPoolExecutor(min(_MOST_THREADS, torch.get_num_threads())) as pool,
    ):
        metadata = header(entries.pop("__metadata__", {}))
        named = {"__metadata__": metadata} if metadata else {}
        framed = _framed({**named, **entries})
        _write(written.fileno(), memoryview(framed), 0)
        for name in sorted(entries, key=lambda name: entries[name]["data_offsets"]):
            moved = transform(name, file.get_tensor(name))
            moved = moved if isinstance(moved, Taken) else Taken(moved)
            begin = len(framed) + entries[name]["data_offsets"][0]
            _write_taken(written.fileno(), moved, begin, pool, turns)


def entries_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The header of a file that is whole: of each tensor dtype, shape and place, and metadata.

    Raises
    ------
    ValueError
        If the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt"), open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entries: dict[str, Any] = json.loads(file.read(length))
    except SafetensorError as error:
        raise ValueError(
            f"{os.fspath(path)} is not a safetensors file, or is damaged ({error})"
        ) from None
    return entries


def _framed(entries: dict[str, Any]) -> bytes:
    """A header as it stands in a file: its length first, spaces last, to align the tensors."""
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write_taken(file: int, moved: Taken, begin: int, pool: Executor, turns: Lock) -> None:
    """Write a tensor at a place in a file: its pieces are made and written by several threads."""
    row = moved.cols * moved.source.itemsize
    step = max(1, _TURN // max(1, row))

    def write(first: int) -> None:
        at = begin + first * row
        for piece in moved.pieces(first, min(first + step, moved.rows)):
            with turns:
                _write(file, piece.data, at)
            at += piece.nbytes

    if moved.rows <= step:
        return write(0)
    for turn in [pool.submit(write, first) for first in range(0, moved.rows, step)]:
        turn.result()


def _write(file: int, content: memoryview, at: int) -> None:
    while content:
        some = os.pwrite(file, content, at)
        content, at = content[some:], at + some
