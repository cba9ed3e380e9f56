"""The solver on the host for a matrix on a device: scanned there, rows fetched when they are read.

A first pass on the device finds the two least costs of every row and its candidates
(`kernels.row_scan`): 400 bytes a row come to the host instead of the matrix. Where rows want
different columns that is the answer; elsewhere the solver asks for the rows that it has to read
again. It is what a build without nvcc solves matrices on a device with, and an oracle for the one
that is built with it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bmatch import _core
from bmatch.arrays import as_array, on_host
from bmatch.assignment.answer import Answer
from bmatch.assignment.costs import Costs
from bmatch.assignment.host import answer_of, threads
from bmatch.kernels import row_scan

_BYTES_AT_ONCE = 1 << 26


def solve_by_fetching(
    costs: Costs,
    *,
    certificate: bool = True,
    prices: Any = None,
    num_threads: int | None = None,
) -> Answer:
    """Solve a matrix most of which stays on its device; as `solve_on_host` otherwise."""
    cost, sense = costs.oriented, costs.sense
    if costs.forbids:
        cost, sense = costs.forbidding(cost)
    n, m = cost.shape
    kind = torch.float64 if cost.dtype == torch.float64 else torch.float32
    # Touched only where rows are put.
    copy = np.empty((n, m), np.float64 if kind == torch.float64 else np.float32)
    step = max(1, _BYTES_AT_ONCE // (m * copy.itemsize))

    def fetch(rows: npt.NDArray[np.int64]) -> None:
        for first in range(0, len(rows), step):
            some = rows[first : first + step]
            fetched = cost.index_select(0, torch.from_numpy(some).to(cost.device))
            copy[some] = fetched.to(kind).cpu().numpy()

    scan = row_scan.scan_rows(cost, sense.value, _core.list_capacity)
    best, second, col, valid, list_cost, list_col, bound = (part.cpu().numpy() for part in scan)
    solved = _core.solve_fetched(
        copy,
        sense,
        threads(num_threads),
        certificate,
        None if prices is None else as_array(on_host(prices)),
        costs.transposed_square,
        math.inf if costs.limit is None else costs.limit,
        costs.partial,
        best,
        second,
        col,
        valid,
        list_cost,
        list_col,
        bound,
        fetch,
    )
    return answer_of(solved, costs).to(cost.device)
