"""A safetensors file with its tensors transformed, one of them in memory at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from bmatch.files.mapped import MappedTensors
from bmatch.files.room import Room
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
    threads: int = _MOST_THREADS,
    room: Room | None = None,
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
    threads : int
        How many make pieces, at most; no more than torch has.
    room : Room, optional
        Where memory for tensors is taken from.

    Raises
    ------
    ValueError
        If the file is damaged.
    OSError
        If `out` cannot be written.
    """
    import torch

    room = Room(0) if room is None else room  # one after another
    turns = Lock()
    with (
        MappedTensors(path) as file,
        open(out, "wb", buffering=0) as written,
        ThreadPoolExecutor(min(threads, torch.get_num_threads())) as pool,
    ):
        framed = framed_header(file, header)
        _write(written.fileno(), memoryview(framed), 0)
        for name in file.in_order():
            begin, end = file.entries[name]["data_offsets"]
            with room.taken(end - begin) as keep:
                moved = transform(name, file.tensor(name))
                let_go = None
                if not isinstance(moved, Taken):
                    moved = Taken(moved)
                elif moved.in_order:
                    let_go = partial(_let_go, file, begin)
                    keep(min(end - begin, threads * _TURN))
                _write_taken(written.fileno(), moved, len(framed) + begin, pool, turns, let_go)
                del moved
                file.let_go(begin, end)


def _let_go(file: MappedTensors, begin: int, first: int, last: int) -> None:
    file.let_go(begin + first, begin + last)


def framed_header(
    file: MappedTensors, header: Callable[[dict[str, str]], dict[str, str]] = dict
) -> bytes:
    """The header with which a file is written again, its length first."""
    metadata = header(dict(file.metadata))
    named = {"__metadata__": metadata} if metadata else {}
    return framed({**named, **file.entries})


def framed(entries: dict[str, Any]) -> bytes:
    """A header as it stands in a file: its length first, spaces last, to align the tensors."""
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write_taken(
    file: int,
    moved: Taken,
    begin: int,
    pool: Executor,
    turns: Lock,
    let_go: Callable[[int, int], None] | None,
) -> None:
    """Write a tensor at a place in a file: its pieces are made and written by several threads."""
    row = moved.cols * moved.source.itemsize
    step = max(1, _TURN // max(1, row))

    def write(first: int) -> None:
        last = min(first + step, moved.rows)
        at = begin + first * row
        for piece in moved.pieces(first, last):
            with turns:
                _write(file, piece.data, at)
            at += piece.nbytes
        if let_go is not None:
            let_go(first * row, last * row)

    if moved.rows <= step:
        return write(0)
    for turn in [pool.submit(write, first) for first in range(0, moved.rows, step)]:
        turn.result()


def _write(file: int, content: memoryview, at: int) -> None:
    while content:
        some = os.pwrite(file, content, at)
        content, at = content[some:], at + some
