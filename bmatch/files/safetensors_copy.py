"""A safetensors file with its tensors transformed, one of them in memory at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


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
        dtype. Called in the order in which the tensors lie in the file.
    header : callable, optional
        From the header's metadata to those of the new file; by default they stay.

    Raises
    ------
    ValueError
        If the file is damaged.
    OSError
        If `out` cannot be written.
    """
    from safetensors import safe_open

    entries = entries_of(path)
    with safe_open(path, framework="pt") as file, open(out, "wb") as written:
        metadata = header(entries.pop("__metadata__", {}))
        named = {"__metadata__": metadata} if metadata else {}
        written.write(_framed({**named, **entries}))
        for name in sorted(entries, key=lambda name: entries[name]["data_offsets"]):
            written.write(_bytes(transform(name, file.get_tensor(name))))


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


def _bytes(tensor: Any) -> Any:
    import torch

    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
