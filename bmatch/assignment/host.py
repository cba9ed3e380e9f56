"""The solver on the host: its threads, and what it says when there is no answer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bmatch import _core
from bmatch.arrays import as_array, on_host
from bmatch.assignment.answer import Answer
from bmatch.assignment.costs import INVALID, Costs

if TYPE_CHECKING:
    from bmatch._core import Solution


def solve_on_host(
    costs: Costs,
    *,
    certificate: bool = True,
    prices: Any = None,
    num_threads: int | None = None,
) -> Answer:
    """Solve a matrix on the host.

    Parameters
    ----------
    costs : Costs
        On the host.
    certificate : bool
        Whether duals, objective and gap are found too.
    prices : float64 [cols], optional
        Prices of the solver's columns, where the search starts.
    num_threads : int, optional
        As for `bmatch.solve`.

    Raises
    ------
    ValueError
        If the matrix holds NaN or -infinity, or has no assignment.
    """
    solved = _core.solve(
        costs.oriented,
        costs.stored_sense,
        threads(num_threads),
        certificate,
        None if prices is None else as_array(on_host(prices)),
        costs.transposed_square,
    )
    return answer_of(solved, costs)


def answer_of(solved: Solution, costs: Costs) -> Answer:
    """What the solver on the host found, unless there is no answer: then an error."""
    if solved.outcome == _core.Outcome.invalid:
        raise ValueError(INVALID)
    if solved.outcome == _core.Outcome.infeasible:
        raise ValueError(costs.infeasible(solved.trapped))
    return Answer(
        solved.col_of_row,
        solved.row_dual,
        solved.col_dual,
        solved.objective,
        solved.gap,
        solved.stats,
    )


def solve_batch_on_host(costs: Costs, *, num_threads: int | None = None) -> npt.NDArray[np.int64]:
    """Columns of all rows, int64 [B, n], -1 for a row without one; a thread each.

    Raises
    ------
    ValueError
        For the first problem that `solve_on_host` refuses.
    """
    solved = _core.batch(costs.matrix, costs.sense, threads(num_threads), costs.sizes)
    where = f"(problem {solved.problem} of the batch)"
    if solved.outcome == _core.Outcome.invalid:
        raise ValueError(f"{INVALID} {where}")
    if solved.outcome == _core.Outcome.infeasible:
        rows, cols = costs.shape[1:] if costs.sizes is None else costs.sizes[solved.problem]
        matrix = costs.matrix[solved.problem, :rows, :cols]
        try:
            solve_on_host(Costs.of(matrix, costs.sense))
        except ValueError as error:
            raise ValueError(f"{error} {where}") from None
    return solved.col_of_row


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


def _default_threads() -> int:
    """As many as the environment says, or as there are cores."""
    asked = os.environ.get("BMATCH_NUM_THREADS", "").strip()
    if not asked:
        return _physical_cores()
    if not (asked.isascii() and asked.isdigit() and int(asked) > 0):
        raise ValueError(
            f"the environment variable BMATCH_NUM_THREADS must be a whole number of threads, at "
            f"least 1, got {asked!r}: leave it out for all cores"
        )
    return int(asked)


_DEFAULT_THREADS = -_default_threads()
