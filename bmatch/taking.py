"""Tensors whose entries are taken along their axes, made whole or piece by piece.

A gauge that permutes and signs only moves bits. What becomes of a tensor that lies in a file need
never lie in memory: pieces of it are made that stay in a cache until they are written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from bmatch import _core

if TYPE_CHECKING:
    import torch

PIECE = 1 << 18
"""Bytes of a piece: they stay in the cache that a core has to itself."""


_Starts: TypeAlias = npt.NDArray[np.int64]  # [rows]
_Signs: TypeAlias = npt.NDArray[np.bool_] | None  # [rows] or [cols]


def can_be_taken(tensor: torch.Tensor) -> bool:
    """Whether a tensor is one that `Taken` takes from: numbers on the CPU whose sign is one bit."""
    import torch

    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)  # others may have no memory
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and tensor.dtype.is_floating_point
        and not tensor.requires_grad
        and not tensor.is_neg()
        and tensor.numel() > 0
    )


class _Move(NamedTuple):
    """Of an axis: where each entry comes from, and whether its sign is turned."""

    order: npt.NDArray[Any]  # int64 [n]
    turned: npt.NDArray[np.bool_] | None  # [n]


class Taken:
    """A tensor on the CPU with entries taken along its axes, made when it is asked for.

    What is made has rows, `[rows, cols]`: they begin behind the last axis along which entries are
    taken, or with that axis if it is the tensor's last.

    Parameters
    ----------
    source : tensor
        One that `can_be_taken`; contiguous, or it is copied.

    Attributes
    ----------
    source : tensor
    rows, cols : int
    """

    def __init__(self, source: torch.Tensor, moves: Mapping[int, _Move] | None = None) -> None:
        self.source = source.contiguous()
        self._moves = dict(moves or {})
        last = max(self._moves, default=self.source.ndim - 1)  # of what stays, entries are rows
        begin = last + 1
        self._columns: _Move | None = None
        if self._moves and prod(self.shape[begin:]) == 1:
            begin, order = last, self._moves[last].order
            self._columns = self._moves[last]._replace(order=order.astype(np.int32))
        self._outer = tuple(self.shape[:begin])
        self.rows, self.cols = prod(self._outer), prod(self.shape[begin:])

    @property
    def shape(self) -> torch.Size:
        """Of what is made, which is that of the source."""
        return self.source.shape

    @property
    def dtype(self) -> torch.dtype:
        """Of what is made, too."""
        return self.source.dtype

    @property
    def device(self) -> torch.device:
        """Of what is made, too."""
        return self.source.device

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.source.ndim

    @property
    def in_order(self) -> bool:
        """Whether row k is made of entries of the source's row k alone."""
        return not self._moves or (self._columns is not None and len(self._moves) == 1)

    def along(
        self,
        axis: int,
        order: npt.NDArray[np.int64],
        turned: npt.NDArray[np.bool_] | None = None,
    ) -> Taken:
        """Taken once more: entry i is what entry ``order[i]`` was, with its sign bit turned or not.

        Parameters
        ----------
        axis : int
            From 0.
        order : int64 [n]
            A permutation.
        turned : bool [n], optional
        """
        before = self._moves.get(axis)
        if before is not None:
            if before.turned is not None:
                there = before.turned[order]
                turned = there if turned is None else there ^ turned
            order = before.order[order]
        return Taken(self.source, {**self._moves, axis: _Move(order, turned)})

    def made(self) -> torch.Tensor:
        """The tensor, whole; the source itself if nothing is taken."""
        import torch

        if not self._moves:
            return self.source
        made = torch.empty_like(self.source)
        self._task(0, self.rows).write(made.data_ptr())
        return made

    def write(self, file: int, at: int, first: int, last: int, threads: int = 1) -> None:
        """Write rows `first` to `last` to a file at a place, piece by piece.

        One thread writes at a time, while others take entries.

        Raises
        ------
        OSError
            If they cannot be written.
        """
        if self._moves:
            self._task(first, last).write_to_file(file, at, PIECE, threads)
            return
        import torch

        row = self.cols * self.source.itemsize
        content = self.source.reshape(-1).view(torch.uint8).numpy()[first * row : last * row].data
        while content:
            some = os.pwrite(file, content, at)
            content, at = content[some:], at + some

    def _begun(self, first: int, last: int) -> tuple[_Starts, _Signs]:
        """Where in the source rows begin, and whether their signs are turned."""
        rows = np.arange(first, last)
        starts, turned = np.zeros(len(rows), np.int64), np.zeros(len(rows), bool)
        stride = self.cols
        for axis in reversed(range(len(self._outer))):
            rows, index = np.divmod(rows, self._outer[axis])
            move = self._moves.get(axis)
            if move is not None:
                if move.turned is not None:
                    turned ^= move.turned[index]
                index = move.order[index]
            starts += index * stride
            stride *= self._outer[axis]
        return starts, turned if turned.any() else None

    def _task(self, first: int, last: int) -> _core.Take:
        order, signs = (None, None) if self._columns is None else self._columns
        starts, turned = self._begun(first, last)
        source, size = self.source.data_ptr(), self.source.itemsize
        return _core.Take(source, starts, turned, self.cols, order, signs, size)
