"""A file of torch.save with its tensors transformed, one of them in memory at a time."""

from __future__ import annotations

import mmap
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any


def copy_torch(tree: Any, out: Path, fill: Callable[[Any], None]) -> None:
    """Write what `torch.load` has read, mapped, again.

    Parameters
    ----------
    tree
        Tensors in dicts, lists and tuples, and what else torch loads with ``weights_only``.
    out : path
    fill : callable
        Is given the same tree with tensors in the new file, and writes to them.

    Raises
    ------
    OSError
        If there is no room for the file.
    """
    import torch

    try:
        with torch.serialization.skip_data():  # leaves holes for the tensors
            torch.save(tree, out)
    except RuntimeError as error:
        told = str(error).partition("\n")[0]
        raise OSError(f"{out} could not be written ({told}): nothing was left behind") from None
    with open(out, "r+b") as file:  # a hole for which there is no room ends who writes to the map
        os.posix_fallocate(file.fileno(), 0, out.stat().st_size)
    with torch.serialization.set_default_mmap_options(mmap.MAP_SHARED), torch.no_grad():
        fill(torch.load(out, map_location="cpu", weights_only=True, mmap=True))
    _sum_up(out)


def _sum_up(path: Path) -> None:
    """Checksums of a zip archive's entries, none of them compressed, anew."""
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.header_offset, entry.file_size) for entry in archive.infolist()]
        central = archive.start_dir
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        for header, size in entries:
            flags, name, extra = (_short(data, header + at) for at in (6, 26, 28))
            begin = header + 30 + name + extra
            with memoryview(data) as seen, seen[begin : begin + size] as content:
                total = zlib.crc32(content)
            data[central + 16 : central + 20] = struct.pack("<I", total)
            if flags & 8:  # it stands behind the content, after a mark
                data[begin + size + 4 : begin + size + 8] = struct.pack("<I", total)
            else:
                data[header + 14 : header + 18] = struct.pack("<I", total)
            central += 46 + sum(_short(data, central + at) for at in (28, 30, 32))


def _short(data: mmap.mmap, at: int) -> int:
    value: int = struct.unpack_from("<H", data, at)[0]
    return value
