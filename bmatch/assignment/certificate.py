"""Proof that an assignment is optimal, checked entry by entry by linear programming duality."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bmatch.arrays import as_array
from bmatch.assignment.answer import Assignment
from bmatch.assignment.costs import Costs, counted, sense_of
from bmatch.assignment.device import Nonfinite, forbids_nonfinite
from bmatch.assignment.solver import solved

_DOWN, _HUGE = 2.0**-64, 2.0**959
"""Where sums may pass the range of float64, all is taken times a power of two."""


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
        pairs, and from what duals that are not feasible would have to be lowered by. Reduced costs
        are exact, so that no rounding is hidden; an optimal assignment has 0, or a few roundings.
        NaN for duals that are not finite.
    min_reduced_cost : float
        Least ``cost[i, j] - row_dual[i] - col_dual[j]`` of all pairs (of the negated costs where
        the sum is maximised), and of what duals of the longer side lack to the sign that they
        must have; not below 0, or by a few roundings, if the duals are feasible.
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
    nonfinite: Nonfinite = "raise",
) -> Certificate:
    """Check any solver's assignment of a matrix, by linear programming duality.

    Parameters
    ----------
    cost, maximize, sign_marginalized, nonfinite
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
        If the pairs are no matching of ``min(n, m)`` rows and columns, if there is not a dual for
        each row and column, or for a matrix that `solve` refuses.
    TypeError
        If rows and columns are not given by whole numbers, or for what `solve` refuses.
    """
    costs = Costs.of(cost, sense_of(maximize, sign_marginalized))
    costs = costs._replace(forbids=forbids_nonfinite(nonfinite))
    n, m = costs.shape
    if isinstance(assignment, Assignment):
        rows, cols = _indices(assignment.row_ind), _indices(assignment.col_ind)
        _require_matching(rows, cols, n, m)
        duals = assignment
    else:
        rows, cols = (_indices(side) for side in _pair(assignment))
        _require_matching(rows, cols, n, m)
        duals = solved(costs)
    u, v = (
        costs.flip * as_array(dual).astype(np.float64) for dual in (duals.row_dual, duals.col_dual)
    )
    if (u.shape, v.shape) != ((n,), (m,)):
        raise ValueError(
            f"the duals of the assignment have shapes {u.shape} and {v.shape}, expected "
            f"{(n,)} and {(m,)} for a matrix of shape {(n, m)}"
        )
    if costs.shift:
        u, v = _exact_duals(costs, u, v)
    matched = costs.minimised(costs.matrix[rows, cols])
    scale = 1.0
    if not all(np.all(np.abs(x) < _HUGE) for x in (u, v, matched)):
        scale, u, v = _DOWN, u * _DOWN, v * _DOWN
    # Duals of the longer side must not be positive: not all of it is matched.
    if n < m:
        longer, v = v, np.minimum(v, 0.0)
        spare = np.delete(v, cols)
    elif m < n:
        longer, u = u, np.minimum(u, 0.0)
        spare = np.delete(u, rows)
    else:
        longer = spare = np.empty(0)
    lack = np.zeros(min(n, m))  # what duals of the shorter side must be lowered by
    least = float((-longer).min(initial=np.inf))
    for some, minimised in _blocks(costs):
        reduced = _reduced(minimised * scale, u[some, None], v)
        least = float(np.minimum(least, reduced.min(initial=np.inf)))  # NaN, if there is one
        if n <= m:
            lack[some] = np.maximum(-reduced.min(axis=1, initial=np.inf), 0.0)
        else:
            np.maximum(lack, -reduced.min(axis=0, initial=np.inf), out=lack)
    reduced = _reduced(matched * scale, u[rows], v[cols])
    if np.isfinite(least) or n * m == 0:
        gap = math.fsum([*reduced, *lack, *-spare]) / scale
    else:
        gap = least = math.nan
    total = costs.total(matched * scale) / scale
    return Certificate(
        objective=costs.given(total),
        bound=costs.given(total - gap),
        gap=gap,
        min_reduced_cost=least / scale + 0.0,  # not -0
    )


def _pair(assignment: Any) -> tuple[Any, Any]:
    """The two sides of bare pairs."""
    try:
        rows, cols = assignment
    except (TypeError, ValueError):
        raise TypeError(
            f"assignment must be an Assignment or a pair (row_ind, col_ind), got {assignment!r:.60}"
        ) from None
    return rows, cols


def _indices(values: Any) -> npt.NDArray[Any]:
    """Rows, or columns, of pairs."""
    indices = as_array(values)
    if indices.size == 0:
        indices = indices.astype(np.int64)
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise TypeError(
            "row_ind and col_ind must be lists of whole numbers, got an array of shape "
            f"{indices.shape} and dtype {indices.dtype}"
        )
    return indices


def _require_matching(rows: npt.NDArray[Any], cols: npt.NDArray[Any], n: int, m: int) -> None:
    short = min(n, m)
    if not (
        len(rows) == len(cols) == short
        and len(np.unique(rows)) == len(np.unique(cols)) == short
        and (short == 0 or (rows.min() >= 0 and cols.min() >= 0))
        and (short == 0 or (rows.max() < n and cols.max() < m))
    ):
        raise ValueError(
            f"assignment is no matching of the matrix of shape {(n, m)}: expected "
            f"{counted(short, 'distinct row')} and as many distinct columns"
        )


def _reduced(
    cost: npt.NDArray[np.float64], u: npt.NDArray[np.float64], v: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """``cost - u - v``, exact but for one rounding of the result; infinite for a forbidden pair."""
    first = cost - v
    with np.errstate(invalid="ignore"):  # of infinities
        hidden = _rounding_error(cost, v, first)
        second = first - u
        hidden += _rounding_error(first, u, second)
    second += np.where(np.isfinite(cost), hidden, 0.0)
    return second


def _rounding_error(
    c: npt.NDArray[np.float64], v: npt.NDArray[np.float64], x: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """What ``x = fl(c - v)`` lacks to ``c - v``: Knuth's error of a sum."""
    taken = x - c
    return (c - (x - taken)) - (v + taken)


def _blocks(costs: Costs) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
    """Rows of the minimised costs, 8 MB of float64 at a time."""
    n, m = costs.shape
    step = max(1, 2**20 // max(m, 1))
    for first in range(0, n, step):
        some = slice(first, first + step)
        minimised = costs.minimised(costs.matrix[some])
        if not minimised.min(initial=np.inf) > -np.inf:
            raise ValueError(costs.invalid())
        yield some, minimised


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
