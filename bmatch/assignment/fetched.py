"""The solver on the host for a matrix on a device: scanned there, rows fetched when they are read.

A first pass on the device finds the two least costs of every row and its candidates
(`kernels.row_scan`): 400 bytes a row come to the host instead of the matrix. Where rows want
different columns that is the answer; elsewhere the solver asks for the rows that it has to read
again. It is what a build without nvcc solves matrices on a device with, and an oracle for the one
that is built with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bmatch import _core
from bmatch.assignment.host import threads
from bmatch.kernels import row_scan

if TYPE_CHECKING:
    import torch

    from bmatch._core import Solved

_BYTES_AT_ONCE = 1 << 26
_SENSES = {_core.Sense.minimize: 0, _core.Sense.maximize: 1, _core.Sense.maximize_magnitude: 2}


def solve(
    cost: torch.Tensor,
    sense: _core.Sense,
    *,
    certificate: bool,
    prices: npt.NDArray[np.float64] | None = None,
    num_threads: int | None = None,
    transposed: bool = False,
) -> Solved:
    """Solve a matrix where most of it stays.

    Parameters
    ----------
    cost : float32, float64, float16 or bfloat16 [n, m], n <= m
        On a CUDA device; the entries of a row lie side by side.
    sense, certificate, prices, num_threads, transposed
        As for `_core.solve`.
    """
    import torch

    n, m = cost.shape
    kind = torch.float64 if cost.dtype == torch.float64 else torch.float32
    # Touched only where rows are put.
    copy = np.empty((n, m), np.float64 if kind == torch.float64 else np.float32)
    step = max(1, _BYTES_AT_ONCE // (m * copy.itemsize))

    def fetch(rows: npt.NDArray[np.int64]) -> None:
        for first in range(0, len(rows), step):
            some = rows[first : first + step]
            there = cost.index_select(0, torch.from_numpy(some).to(cost.device))
            copy[some] = there.to(kind).cpu().numpy()

    scan = row_scan.scan_rows(cost, _SENSES[sense], _core.list_capacity)
    best, second, col, valid, list_cost, list_col, bound = (part.cpu().numpy() for part in scan)
    return _core.solve_fetched(
        copy,
        sense,
        threads(num_threads),
        certificate,
        prices,
        transposed,
        best,
        second,
        col,
        valid,
        list_cost,
        list_col,
        bound,
        fetch,
    )
