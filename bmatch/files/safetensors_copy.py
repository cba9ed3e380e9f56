"""A safetensors file with its tensors transformed, one of them in memory at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bmatch.files.mapped import MappedTensors
from bmatch.files.room import Room
from bmatch.taking import Taken

TURN = 1 << 26
"""Bytes that are made and written before what they were made of is let go."""
_MOST_THREADS = 3
"""One of them writes at a time."""


def copy_safetensors(
    path: str | os.PathLike[str],
    out: Path,
    transform: Callable[[str, Any], Any],
    header: Callable[[dict[str, str]], dict[str, str]] = dict,
    threads: Callable[[], int] = lambda: _MOST_THREADS,
    room: Room | None = None,
    look: Callable[[str, Any], Callable[[int, int], None]] | None = None,
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
    threads : callable
        How many may make pieces now, at most; no more than torch has.
    room : Room, optional
        Where memory for tensors is taken from.
    look : callable, optional
        Takes a name and a tensor; what it returns is told how many of the tensor's bytes it may
        read, and by how many threads, before what they become is written.

    Raises
    ------
    ValueError
        If the file is damaged.
    OSError
        If `out` cannot be written.
    """
    import torch

    room = Room(0) if room is None else room  # one after another
    most = torch.get_num_threads()
    with MappedTensors(path) as file, open(out, "wb") as written:
        framed = framed_header(file, header)
        written.write(framed)
        written.flush()
        for name in file.in_order():
            begin, end = file.entries[name]["data_offsets"]
            with room.taken(end - begin) as keep:
                tensor = file.tensor(name)
                looking = (lambda *_: None) if look is None else look(name, tensor)
                moved = transform(name, tensor)
                in_order = isinstance(moved, Taken) and moved.in_order
                moved = moved if isinstance(moved, Taken) else Taken(moved)
                if in_order:
                    keep(min(end - begin, TURN))
                else:
                    looking(end - begin, min(threads(), most))
                row = moved.cols * moved.source.itemsize
                step = max(1, TURN // max(1, row))
                for first in range(0, moved.rows, step):
                    last, at = min(first + step, moved.rows), begin + first * row
                    now = min(threads(), most)
                    if in_order:
                        looking(last * row, now)
                    moved.write(written.fileno(), len(framed) + at, first, last, now)
                    if in_order:
                        file.let_go(at, begin + last * row)
                del moved, tensor, looking
                file.let_go(begin, end)


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
