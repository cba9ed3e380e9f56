"""Proof that an assignment is optimal, checked entry by entry by linear programming duality."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bmatch.assignment.answer import Assignment
from bmatch.assignment.costs import Costs, sense_of
from bmatch.assignment.solver import solve
from bmatch.assignment.sparse import SparseCosts, entries_of, is_sparse


@dataclass(frozen=True)
class Certificate:
    """What an assignment of a matrix is worth, checked entry by entry in float64.

    Attributes
    ----------
    objective : float
        Sum of the matched entries (of their magnitudes where those are maximised).
    bound : float
        What no assignment can beat, by the duals: a lower bound when minimising.
    gap : float
        Distance of the two, summed without cancellation from the reduced costs of the matched
        pairs; an optimal assignment has 0, or a few roundings.
    min_reduced_cost : float
        Least ``cost[i, j] - row_dual[i] - col_dual[j]`` of all pairs (of the negated costs where
        the sum is maximised); not below 0, or by a few roundings, if the duals are feasible.
    """

    objective: float
    bound: float
    gap: float
    min_reduced_cost: float


def certify(
    cost: npt.ArrayLike,
    assignment: Assignment | tuple[npt.ArrayLike, npt.ArrayLike],
    maximize: bool = False,
    *,
    sign_marginalized: bool = False,
) -> Certificate:
    """Check any solver's assignment of a matrix, by linear programming duality.

    Parameters
    ----------
    cost, maximize, sign_marginalized
        As for `solve`.
    assignment : Assignment, or (row_ind, col_ind)
        What is to be checked. Duals are taken from an `Assignment`; for bare pairs they are found
        by solving the problem. Either way they are checked here against every entry.

    Returns
    -------
    Certificate
        Optimality is proved where `gap` and `min_reduced_cost` are 0 up to rounding.

    Raises
    ------
    ValueError
        If the pairs are no matching of ``min(n, m)`` rows and columns, or for a matrix that
        `solve` refuses.
    """
    costs: Any = (SparseCosts if is_sparse(cost) else Costs).of(
        cost, sense_of(maximize, sign_marginalized)
    )
    n, m = costs.shape
    if isinstance(assignment, Assignment):
        rows, cols = np.asarray(assignment.row_ind), np.asarray(assignment.col_ind)
        duals = assignment
    else:
        rows, cols = (np.asarray(side) for side in assignment)
        duals = solve(cost, maximize, sign_marginalized=sign_marginalized)
    _require_matching(rows, cols, n, m)
    u, v = costs.flip * np.asarray(duals.row_dual), costs.flip * np.asarray(duals.col_dual)
    if costs.shift:
        u, v = _exact_duals(costs, u, v)
    if isinstance(costs, SparseCosts):
        at_row, at_col, minimised = entries_of(costs)
        least = float((minimised - v[at_col] - u[at_row]).min(initial=np.inf))
        matched = _matched_entries(at_row * m + at_col, minimised, rows, cols, m)
        objective = math.fsum(matched)
    else:
        least = np.inf
        for some, minimised in _blocks(costs):
            reduced = minimised - v
            reduced -= u[some, None]
            least = min(least, float(reduced.min(initial=np.inf)))
        matched = costs.minimised(costs.matrix[rows, cols])
        objective = costs.total(matched)
    # Duals of what is left unmatched must not be positive; what they lack to 0 is part of the gap.
    spare = np.delete(v, cols) if n < m else np.delete(u, rows)
    if len(spare):
        least = min(least, float((-spare).min()))
    gap = math.fsum([*(matched - v[cols] - u[rows]), *-spare])
    return Certificate(
        objective=costs.given(objective),
        bound=costs.given(objective - gap),
        gap=gap,
        min_reduced_cost=least,
    )


def _require_matching(rows: npt.NDArray[Any], cols: npt.NDArray[Any], n: int, m: int) -> None:
    short = min(n, m)
    if not (
        len(rows) == len(cols) == short
        and len(np.unique(rows)) == len(np.unique(cols)) == short
        and (short == 0 or (rows.min() >= 0 and cols.min() >= 0))
        and (short == 0 or (rows.max() < n and cols.max() < m))
    ):
        raise ValueError(
            f"assignment is no matching of the matrix of shape {(n, m)}: expected {short} "
            "distinct rows and as many distinct columns"
        )


def _matched_entries(
    places: npt.NDArray[np.int64],
    minimised: npt.NDArray[np.float64],
    rows: npt.NDArray[Any],
    cols: npt.NDArray[Any],
    m: int,
) -> npt.NDArray[np.float64]:
    """Costs of matched pairs of a sparse matrix, +inf where one is no entry; `places` ascend."""
    if not len(places):
        return np.full(len(rows), np.inf)
    wanted = rows.astype(np.int64) * m + cols
    at = np.searchsorted(places, wanted).clip(max=len(places) - 1)
    return np.where(places[at] == wanted, minimised[at], np.inf)


def _blocks(costs: Costs) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
    """Rows of the minimised costs, 8 MB of float64 at a time."""
    n, m = costs.shape
    step = max(1, 2**20 // max(m, 1))
    for first in range(0, n, step):
        some = slice(first, first + step)
        yield some, costs.minimised(costs.matrix[some])


def _exact_duals(
    costs: Costs, u: npt.NDArray[np.float64], v: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Duals for integers as they are stored, less their shift.

    Those that bear the shift were rounded to the size of the entries; the best ones for the stored
    entries follow exactly from those of the other side.
    """
    n, m = costs.shape
    if n <= m:
        u = np.empty(n)
        for some, minimised in _blocks(costs):
            u[some] = (minimised - v).min(axis=1)
    else:
        v = np.full(m, np.inf)
        for some, minimised in _blocks(costs):
            np.minimum(v, (minimised - u[some, None]).min(axis=0), out=v)
    return u, v
