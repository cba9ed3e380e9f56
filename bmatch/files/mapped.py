"""Tensors of a safetensors file that lie in memory no longer than they are looked at."""

from __future__ import annotations

import json
import mmap
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

DTYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"},
    **{"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu"},
    **{"F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz"},
    **{"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8"},
    **{"U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8"},
    **{"BOOL": "bool", "C64": "complex64"},
}
"""Types in headers, and torch's names of them."""


class MappedTensors:
    """A file's tensors, mapped: pages come as they are read, and go when they are let go.

    Whole files of mapped tensors stay in a process's memory for as long as one of them is held.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    entries : dict of str to dict
        Of each tensor dtype, shape and place, as in the header.
    metadata : dict of str to str
    begin : int
        Where in the file the tensors' places are counted from.

    Raises
    ------
    ValueError
        If the file is damaged, or a tensor is of a type that torch has not.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.entries = entries_of(path)
        self.metadata: dict[str, str] = self.entries.pop("__metadata__", {})
        with open(path, "rb") as file:
            self.begin = 8 + int.from_bytes(file.read(8), "little")
            # Private and writable, since torch wants memory that can be written; nobody does.
            self._map = mmap.mmap(
                file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE
            )
        for name, entry in self.entries.items():
            if entry["dtype"] not in DTYPES:
                raise ValueError(
                    f"{os.fspath(path)}: {name} is of a type not known, {entry['dtype']}"
                )

    def __enter__(self) -> MappedTensors:
        return self

    def __exit__(self, *ended: object) -> None:
        self.let_go(0, self.size)  # tensors that are still held keep the mapping

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return len(self._map) - self.begin

    def num_bytes(self, name: str) -> int:
        """Bytes of a tensor."""
        begin, end = self.entries[name]["data_offsets"]
        return int(end - begin)

    def in_order(self) -> list[str]:
        """Names as the tensors lie in the file."""
        return sorted(self.entries, key=lambda name: self.entries[name]["data_offsets"])

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor of this name, on the CPU, not to be written to."""
        import torch

        entry = self.entries[name]
        begin, end = entry["data_offsets"]
        dtype: torch.dtype = getattr(torch, DTYPES[entry["dtype"]])
        if begin == end:
            return torch.empty(entry["shape"], dtype=dtype)
        seen = torch.frombuffer(
            self._map, dtype=torch.uint8, count=end - begin, offset=self.begin + begin
        )
        if seen.data_ptr() % dtype.itemsize:  # by other writers than safetensors
            seen = seen.clone()
        return seen.view(dtype).reshape(entry["shape"])

    def let_go(self, begin: int, end: int) -> None:
        """Take bytes, counted as the places of tensors are, out of the process's memory.

        They are read again if they are asked for again. Pages that are only partly of these stay.
        """
        page = mmap.PAGESIZE
        first = -(-(self.begin + begin) // page) * page
        last = (self.begin + end) // page * page
        if first < last:
            self._map.madvise(mmap.MADV_DONTNEED, first, last - first)


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
