"""Which tiling a product of cross-moments runs with: a table, and how to read it.

A row names the GPU on which it was timed and was the fastest, though some of its sums may be
spilled now and then. One that no GPU has timed yet says ``"modelled"``: it compiles without spills,
fits the shared memory, and reads operands least often from memory.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache

import torch


@dataclass(frozen=True)
class Tiling:
    """One row of the table.

    Attributes
    ----------
    capability : int
        Least compute capability, major and minor digit: 90 is Hopper.
    dim : int
        Least width of both streams.
    promoted : bool
        Whether sums leave the tensor cores every `PROMOTED_TOKENS`; it costs a second set of
        registers, hence smaller tiles.
    block_m, block_n, block_k : int
        Target coordinates, source coordinates and tokens of a tile.
    warps, stages : int
        Warps of a program, depth of its load pipeline.
    evidence : str
        The GPU on which the row was timed, or "modelled".
    """

    capability: int
    dim: int
    promoted: bool
    block_m: int
    block_n: int
    block_k: int
    warps: int
    stages: int
    evidence: str = "modelled"


TILINGS = (
    Tiling(90, 1024, False, 128, 256, 64, 8, 4, "H100"),
    Tiling(90, 256, False, 128, 128, 64, 8, 4, "H100"),
    Tiling(100, 0, False, 64, 128, 64, 4, 4),
    Tiling(90, 0, False, 64, 64, 64, 4, 4),
    Tiling(100, 256, True, 128, 128, 64, 8, 4),
    Tiling(90, 1024, True, 128, 256, 64, 8, 3, "H100"),
    Tiling(90, 256, True, 128, 128, 64, 8, 4, "H100"),
    Tiling(90, 0, True, 64, 64, 64, 4, 4),
    Tiling(80, 256, False, 128, 128, 64, 8, 3),
    Tiling(80, 0, False, 64, 64, 64, 4, 3),
    Tiling(80, 256, True, 128, 128, 32, 8, 4),
    Tiling(80, 0, True, 64, 64, 64, 4, 3),
)
"""Read from the top: the first row that a device and a width satisfy is taken."""

PROMOTED_TOKENS = 256
"""Tokens per tensor-core accumulator where sums are promoted: 16 additions of 16 tokens, which
lose at most 16 units of 2^-23 even where every one drops its last bits."""

STEPS_PER_SPLIT = 8
"""Least steps of a split: fewer, and filling the load pipeline costs more than idle processors."""

GROUP = 8
"""Rows of tiles that are walked together: their operands stay in the L2 cache."""

STRIDE_UNIT = 8
"""What strides are counted in that grow with the batch, in kernels that load 16 bytes at once.

Triton compiles a kernel anew where an integer becomes or ceases to be a multiple of 16. Such
strides are exempt from that, and in this unit the kernel knows that rows stay aligned."""

_WITHOUT_GPU = (90, 132)  # the interpreter plays a Hopper of 132 multiprocessors


def tiling(device: torch.device, dim: int, promoted: bool) -> Tiling:
    """The table's row for streams of which the narrower has `dim` coordinates.

    Raises
    ------
    ValueError
        If the device has no matrix instruction for bfloat16.
    """
    capability, _ = _properties(device)
    for row in TILINGS:
        if capability >= row.capability and dim >= row.dim and promoted == row.promoted:
            return row
    raise ValueError(
        f"the kernels need compute capability 8.0 or newer for bfloat16, and {device} has "
        f"{capability // 10}.{capability % 10}"
    )


def splits(device: torch.device, tiles: int, steps: int) -> int:
    """Into how many parts the tokens of a chunk are split so that few tiles fill the device.

    0 where the tiles fill it alone: no parts are written down. That is decided by the tiles and not
    by the tokens, so that a short batch runs the kernel of a long one.
    """
    most = most_splits(device, tiles)
    return max(1, min(most, steps // STEPS_PER_SPLIT)) if most > 1 else 0


def most_splits(device: torch.device, tiles: int) -> int:
    """Into how many parts the tokens of a long chunk are split, 1 where they are not."""
    _, multiprocessors = _properties(device)
    return max(1, multiprocessors // tiles)


def cdiv(size: int, block: int) -> int:
    """How many blocks hold so many; Triton's own takes microseconds to say so."""
    return -(-size // block)


def strides(y: torch.Tensor, x: torch.Tensor) -> tuple[int, tuple[int, ...]]:
    """In what the strides of two streams [S, T, D] along S are counted, and all six, Y's first.

    The unit is `STRIDE_UNIT` if those along S and those of rows are multiples of it, otherwise 1.
    Where rows are aligned, so is what holds whole rows: that is so for any number of tokens.
    """
    (y_site, y_row, y_col), (x_site, x_row, x_col) = y.stride(), x.stride()
    aligned = all(stride % STRIDE_UNIT == 0 for stride in (y_site, y_row, x_site, x_row))
    unit = STRIDE_UNIT if aligned else 1
    return unit, (y_site // unit, y_row, y_col, x_site // unit, x_row, x_col)


def has_descriptors(device: torch.device) -> bool:
    """Whether tensor descriptors compile to the copy engine (TMA)."""
    return _properties(device)[0] >= 90


def has_matrix_units(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16: compute capability 8.0 and newer."""
    return _properties(device)[0] >= 80


def launching_on(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current device, which need not be the tensors' own."""
    if device.type != "cuda" or device.index in (None, torch.cuda.current_device()):
        return nullcontext()
    return torch.cuda.device(device)


def _properties(device: torch.device) -> tuple[int, int]:
    """Compute capability as two digits, and the number of multiprocessors."""
    if device.type != "cuda":
        return _WITHOUT_GPU
    return _of_gpu(torch.cuda.current_device() if device.index is None else device.index)


@cache
def _of_gpu(index: int) -> tuple[int, int]:
    properties = torch.cuda.get_device_properties(index)
    return 10 * properties.major + properties.minor, properties.multi_processor_count
