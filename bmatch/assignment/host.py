"""The solver on the host: its threads, and what it says when there is no answer."""

from __future__ import annotations

import math
import operator
import os
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bmatch import _core
from bmatch.arrays import as_array, on_host
from bmatch.assignment.answer import Answer
from bmatch.assignment.costs import Costs
from bmatch.assignment.factors import Factors

if TYPE_CHECKING:
    from bmatch._core import BatchSolution, Solution

MOST_THREADS = 4096
"""More than any machine has cores."""


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

    def solved(entries: Any, sense: _core.Sense) -> Solution:
        by_factors = isinstance(entries, Factors)
        solve = entries.source.solve if by_factors else partial(_core.solve, entries)
        answer: Solution = solve(
            sense,
            threads(num_threads),
            certificate,
            None if prices is None else as_array(on_host(prices)),
            costs.transposed_square,
            math.inf if costs.limit is None else costs.limit,
            costs.partial,
        )
        return answer

    solution = solved(costs.oriented, costs.stored_sense)
    if solution.outcome == _core.Outcome.invalid and costs.forbids:
        solution = solved(*costs.forbidding(costs.oriented))
    return answer_of(solution, costs)


def answer_of(solved: Solution, costs: Costs) -> Answer:
    """What the solver on the host found, unless there is no answer: then an error."""
    if solved.outcome == _core.Outcome.invalid:
        raise ValueError(costs.invalid())
    if solved.outcome == _core.Outcome.infeasible:
        raise ValueError(costs.infeasible(solved.trapped))
    return Answer.of(solved)


def solve_batch_on_host(costs: Costs, *, num_threads: int | None = None) -> npt.NDArray[np.int64]:
    """Columns of all rows, int64 [B, n], -1 for a row without one; a thread each.

    Raises
    ------
    ValueError
        For the first problem that `solve_on_host` refuses.
    """

    def batch(entries: npt.NDArray[Any], sense: _core.Sense) -> BatchSolution:
        return _core.batch(
            entries, sense, threads(num_threads), costs.sizes, costs.limit, costs.partial
        )

    solved = batch(costs.matrix, costs.sense)
    if solved.outcome == _core.Outcome.invalid and costs.forbids:
        solved = batch(*costs.forbidding(costs.matrix))
    if solved.outcome == _core.Outcome.invalid:
        raise ValueError(costs.invalid(solved.problem))
    if solved.outcome == _core.Outcome.infeasible:
        rows, cols = costs.shape[1:] if costs.sizes is None else costs.sizes[solved.problem]
        matrix = costs.matrix[solved.problem, :rows, :cols]
        try:
            solve_on_host(Costs.of(matrix, costs.sense, forbids=costs.forbids))
        except ValueError as error:
            raise ValueError(f"{error} (problem {solved.problem} of the batch)") from None
    return solved.col_of_row


def threads(asked: int | None = None) -> int:
    """Threads for a solve; negative for the default, which small matrices do not use."""
    if asked is None:
        return DEFAULT_THREADS
    try:
        number = operator.index(asked)
    except TypeError:
        raise TypeError(
            f"num_threads must be an int, or None for all cores, got {asked!r}"
        ) from None
    if number < 1:
        raise ValueError(
            f"num_threads must be at least 1, got {number}: leave it out for all cores"
        )
    if number > MOST_THREADS:
        raise ValueError(f"num_threads must be at most {MOST_THREADS}, got {number}")
    return number


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
    if asked.isascii() and asked.isdigit() and 0 < int(asked) <= MOST_THREADS:
        return int(asked)
    # As for BMATCH_ISA: answers are the same, so that no job need stop.
    warnings.warn(
        "BMATCH_NUM_THREADS: the number of threads must be a whole number from 1 to "
        f"{MOST_THREADS}, got {asked!r}; all cores are used",
        RuntimeWarning,
        stacklevel=2,
    )
    return _physical_cores()


DEFAULT_THREADS = -_default_threads()
