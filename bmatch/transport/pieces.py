"""Tensors that files keep as rows: one of all entries, or one for each piece of a grid.

DeepSpeed's universal form has the first where it was made of ZeRO-3, Megatron-core before 0.14 the
other, where data-parallel processes had shared what an optimizer keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from bmatch.groups import Gauge
from bmatch.models.trainer import Shape
from bmatch.transport.objects import Along


@dataclass(frozen=True)
class Pieces:
    """How a tensor lies in rows.

    Attributes
    ----------
    shape : tuple of int
        Of the tensor.
    stored : tuple of int
        Of what is kept of it: ``[entries]``, or ``[*grid, entries of a piece]``.
    """

    shape: Shape
    stored: Shape

    @property
    def fits(self) -> bool:
        """Whether the one can be the other."""
        pairs = list(zip(self._grid, self.shape, strict=False))
        whole = len(pairs) == len(self.shape) and all(n and not size % n for n, size in pairs)
        return whole and prod(self.stored) == prod(self.shape)

    @property
    def _grid(self) -> Shape:
        return self.stored[:-1] or (1,) * len(self.shape)

    def whole(self, kept: torch.Tensor) -> torch.Tensor:
        """The tensor, of what is kept of it."""
        sizes = [size // n for size, n in zip(self.shape, self._grid, strict=True)]
        axes = range(len(sizes))
        order = [axis for k in axes for axis in (k, k + len(sizes))]
        return kept.reshape(*self._grid, *sizes).permute(order).reshape(self.shape)

    def rows(self, tensor: torch.Tensor) -> torch.Tensor:
        """What is kept of the tensor."""
        pairs = zip(self._grid, self.shape, strict=True)
        split = tensor.reshape([length for n, size in pairs for length in (n, size // n)])
        return split.permute(*range(0, split.ndim, 2), *range(1, split.ndim, 2)).reshape(
            self.stored
        )

    def along(self, move: Along) -> Moved:
        """How what is kept moves, where the tensor moves like this."""
        return Moved(self, move)


@dataclass(frozen=True)
class Moved:
    """A move of a tensor that lies in rows."""

    pieces: Pieces
    move: Along

    def __call__(self, kept: torch.Tensor, gauge: Gauge) -> Any:
        """The rows in target coordinates."""
        return self.pieces.rows(self.move(self.pieces.whole(kept), gauge))
