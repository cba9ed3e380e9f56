"""Rows of a stream in one npy or safetensors file, mapped where they are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bmatch.files.mapped import entries_of
from bmatch.files.pointers import require_content

_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<i2"}
"""Of safetensors as NumPy reads them; bfloat16 by its bits."""


@dataclass(frozen=True, eq=False)
class Piece(ABC):
    """Rows of a stream in one place.

    Attributes
    ----------
    path : Path
    dtype : str
        As NumPy calls it.
    bfloat16 : bool
        Whether these are its bits.
    rows : int
    dim : int
        D.
    sequence : int
        Rows of a sequence, 0 where that is not known.
    """

    path: Path
    dtype: str
    bfloat16: bool
    rows: int
    dim: int
    sequence: int

    @abstractmethod
    def values(self, first: int, count: int) -> npt.NDArray[Any]:
        """Some of the rows [count, D], as they are stored, in C order.

        Raises
        ------
        ValueError
            If they cannot be read, or no longer.
        """

    @property
    def held_bytes(self) -> int:
        """What stays in memory between reads."""
        return 0

    def let_go(self) -> None:  # noqa: B027  # most hold nothing
        """Free that."""


class Found(NamedTuple):
    """A piece of the stream of this name."""

    name: str
    piece: Piece


@dataclass(frozen=True, eq=False)
class _Mapped(Piece):
    offset: int

    def values(self, first: int, count: int) -> npt.NDArray[Any]:
        at = self.offset + first * self.dim * np.dtype(self.dtype).itemsize
        try:
            return np.memmap(self.path, self.dtype, "r", at, (count, self.dim))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{self.path} could be read before and no longer can ({error}): was it changed?"
            ) from None


def pieces_of_file(name: str, file: Path) -> Iterator[Found]:
    """What is in an npy file, by this name, or in a safetensors file, by its own; by headers alone.

    Raises
    ------
    ValueError
        If it is damaged, or of a type or order that is not read.
    """
    require_content(file)
    yield from _npy(name, file) if file.suffix == ".npy" else _safetensors(file)


def _npy(name: str, file: Path) -> Iterator[Found]:
    try:
        array = np.lib.format.open_memmap(file, mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(
            f"{file} is no npy file of plain numbers, or is damaged ({error})"
        ) from None
    if array.dtype.kind != "f" or array.ndim < 2 or not array.flags.c_contiguous:
        raise ValueError(
            f"{file} is {array.dtype} of shape {array.shape}"
            f"{'' if array.flags.c_contiguous else ' in Fortran order'}, and activations are "
            "floats [T, D] or [sequences, L, D] in C order"
        )
    yield Found(name, _piece(file, array.offset, array.dtype.str, False, array.shape))


def _safetensors(file: Path) -> Iterator[Found]:
    entries = entries_of(file)
    with open(file, "rb") as opened:
        begin = 8 + int.from_bytes(opened.read(8), "little")
    for name, entry in entries.items():
        if name == "__metadata__" or len(entry["shape"]) < 2 or entry["dtype"] not in _TYPES:
            continue
        at, kind = begin + entry["data_offsets"][0], entry["dtype"]
        yield Found(name, _piece(file, at, _TYPES[kind], kind == "BF16", entry["shape"]))


def _piece(file: Path, at: int, dtype: str, bfloat16: bool, shape: Sequence[int]) -> Piece:
    rows, sequence = rows_of(shape)
    return _Mapped(file, dtype, bfloat16, rows, shape[-1], sequence, at)


def rows_of(shape: Sequence[int]) -> tuple[int, int]:
    """How many rows [T, D] or [..., L, D] has, and of them a sequence; 0 where that is unknown."""
    return int(np.prod(shape[:-1])), shape[-2] if len(shape) > 2 else 0
