"""The assignment solver on the host: how a matrix lies, threads, the answer in its terms."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bmatch import _core
from bmatch.assignment.costs import MATRIX, as_floats, infeasible, moved_sum, sense_of_moved

if TYPE_CHECKING:
    from bmatch._core import Solved


class Answer(NamedTuple):
    """An optimal assignment, arrays or tensors on a device, in terms of the minimised costs.

    Attributes
    ----------
    matrix : [n, m]
        As the solver read it.
    shift : int
        What was subtracted from the entries of `matrix`, and from nothing else.
    row_ind, col_ind : int64 [min(n, m)]
    col_of_row : int64 [n]
    row_dual, col_dual : float64 [n], [m]
    objective, gap : float
    stats : mapping
    """

    matrix: Any
    shift: int
    row_ind: Any
    col_ind: Any
    col_of_row: Any
    row_dual: Any
    col_dual: Any
    objective: float
    gap: float
    stats: Mapping[str, float]


class Start(NamedTuple):
    """Duals of a similar problem, float64 [n] and [m], in the units of its matrix."""

    row_dual: Any
    col_dual: Any

    def prices(self, n: int, m: int, flipped: bool, sense: _core.Sense) -> Any:
        """Prices of what the solver takes for columns: rows, if the matrix is `flipped`."""
        if len(self.row_dual) != n or len(self.col_dual) != m:
            raise ValueError(
                f"warm_start is the answer for a matrix of shape "
                f"{(len(self.row_dual), len(self.col_dual))}, expected {(n, m)}"
            )
        start = self.row_dual if flipped else self.col_dual
        return start * (1.0 if sense == _core.Sense.minimize else -1.0)


def solve(
    cost: npt.ArrayLike,
    sense: _core.Sense,
    *,
    certificate: bool = True,
    start: Start | None = None,
    num_threads: int | None = None,
) -> Answer:
    """Solve a matrix ``[n, m]`` on the host; without `certificate` there are no duals.

    Raises
    ------
    ValueError, TypeError
        For what is no cost matrix, or has no assignment.
    """
    matrix, shift = as_floats(cost, 2, MATRIX)
    n, m = matrix.shape
    stored = sense_of_moved(sense, shift)
    # The solver wants the short side as its rows, and the entries of a row side by side.
    columnwise = abs(matrix.strides[0]) < abs(matrix.strides[1])
    flipped = n > m or (n == m and columnwise)
    solved = _core.solve(
        matrix.T if flipped else matrix,
        stored,
        threads(num_threads),
        certificate,
        None if start is None else np.asarray(start.prices(n, m, flipped, sense)),
        flipped and n == m,
    )
    answer = turned_back(solved, matrix, flipped)
    if not (shift and certificate):
        return answer._replace(shift=shift)
    # Back to the costs as they were given: the duals of the side that is matched whole bear it.
    moved = shift if stored == _core.Sense.minimize else -shift
    matched = matrix[answer.row_ind, answer.col_ind]
    u, v = answer.row_dual, answer.col_dual
    return answer._replace(
        shift=shift,
        objective=moved_sum(matched if moved == shift else -matched, stored, shift),
        row_dual=u + moved if n <= m else u,
        col_dual=v if n <= m else v + moved,
    )


def turned_back(solved: Solved, matrix: Any, flipped: bool) -> Answer:
    """What the solver says of `matrix`, or of its transpose, in terms of `matrix`.

    Raises
    ------
    ValueError
        If the matrix holds NaN or -infinity, or has no assignment.
    """
    outcome, col_of_row, u, v, objective, gap, trapped, stats = solved
    if outcome == _core.Outcome.invalid:
        raise ValueError("matrix contains invalid numeric entries")
    if outcome == _core.Outcome.infeasible:
        raise ValueError(infeasible(trapped, "columns" if flipped else "rows"))
    if not flipped:
        row_ind, col_ind = np.arange(len(col_of_row)), col_of_row.copy()
        return Answer(matrix, 0, row_ind, col_ind, col_of_row, u, v, objective, gap, stats)
    row_of_col = col_of_row
    col_ind = np.argsort(row_of_col)
    row_ind = row_of_col[col_ind]
    col_of_row = np.full(len(matrix), -1, dtype=np.int64)
    col_of_row[row_ind] = col_ind
    return Answer(matrix, 0, row_ind, col_ind, col_of_row, v, u, objective, gap, stats)


def threads(asked: int | None = None) -> int:
    """Threads for a solve; negative for the default, which small matrices do not use."""
    if asked is None:
        return _DEFAULT_THREADS
    if asked < 1:
        raise ValueError(f"num_threads must be at least 1, got {asked}: leave it out for all cores")
    return asked


def _physical_cores() -> int:
    """Cores, not hardware threads, that this process may run on."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.add(siblings.read_text())
        except OSError:
            cores.add(str(cpu))
    return len(cores)


_DEFAULT_THREADS = -int(os.environ.get("BMATCH_NUM_THREADS") or _physical_cores())
