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
from bmatch.assignment.sparse import SparseCosts, entries_of, is_sparse

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
    sense, forbids = sense_of(maximize, sign_marginalized), forbids_nonfinite(nonfinite)
    costs: Any = (SparseCosts if is_sparse(cost) else Costs).of(cost, sense, forbids=forbids)
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
    # In what follows rows are the short side.
    i, j = (cols, rows) if n > m else (rows, cols)
    if n > m:
        u, v = v, u
    if costs.shift:
        u = _exact_duals(costs, v)
    entries = entries_of(costs) if isinstance(costs, SparseCosts) else None
    matched = _matched_costs(costs, entries, rows, cols)
    scale = 1.0
    if not all(np.all(np.abs(x) < _HUGE) for x in (u, v, matched)):
        scale, u, v = _DOWN, u * _DOWN, v * _DOWN
    least, spare = np.inf, np.empty(0)
    if n != m:  # duals of the longer side must not be positive: not all of it is matched
        least = float((-v).min(initial=np.inf))
        v = np.minimum(v, 0.0)
        spare = np.delete(v, j)
    proving = bool(np.isfinite(u).all() and np.isfinite(v).all())
    lack = np.zeros(len(u))  # what row duals must be lowered by
    if entries is not None and proving:
        at_row, at_col, minimised = entries
        if n > m:
            at_row, at_col = at_col, at_row
        reduced = _reduced(minimised * scale, u[at_row], v[at_col])
        least = min(least, float(reduced.min(initial=np.inf)))
        np.maximum.at(lack, at_row, -reduced)
    for some, minimised in () if entries is not None else _blocks(costs):
        if not proving:
            continue
        of_rows = _least_reduced(minimised * scale, u[some], v)
        least = min(least, float(of_rows.min(initial=np.inf)))
        lack[some] = np.maximum(-of_rows, 0.0)
    gap = math.nan
    if np.isinf(matched).any():  # a forbidden pair
        gap = math.inf
    elif proving:
        gap = math.fsum([*_reduced(matched * scale, u[i], v[j]), *lack, *-spare]) / scale
    total = costs.total(matched * scale) / scale
    return Certificate(
        objective=costs.given(total),
        bound=costs.given(total - gap),
        gap=gap,
        min_reduced_cost=least / scale + 0.0 if proving else math.nan,  # not -0
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


def _least_reduced(
    cost: npt.NDArray[np.float64], u: npt.NDArray[np.float64], v: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The least of ``cost - u - v`` in each row, exact but for one rounding."""
    rounded = cost - v
    rounded -= u[:, None]
    least: npt.NDArray[np.float64] = rounded.min(axis=1, initial=np.inf)
    # What is further from it than roundings reach cannot be less exactly.
    reach = least + 2.0**-50 * (2 * np.abs(least) + np.abs(u))
    i, j = np.nonzero((rounded <= reach[:, None]) & np.isfinite(cost))
    np.minimum.at(least, i, _reduced(cost[i, j], u[i], v[j]))
    return least


def _reduced(
    cost: npt.NDArray[np.float64], u: npt.NDArray[np.float64], v: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """``cost - u - v``, exact but for one rounding of the result."""
    first = cost - v
    second = first - u
    return second + (_rounding_error(cost, v, first) + _rounding_error(first, u, second))


def _rounding_error(
    c: npt.NDArray[np.float64], v: npt.NDArray[np.float64], x: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """What ``x = fl(c - v)`` lacks to ``c - v``: Knuth's error of a sum."""
    taken = x - c
    return (c - (x - taken)) - (v + taken)


def _matched_costs(
    costs: Any, entries: Any, rows: npt.NDArray[Any], cols: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """Minimised costs of matched pairs, +inf for one that is no entry of a sparse matrix."""
    if entries is None:
        matched: npt.NDArray[np.float64] = costs.minimised(costs.matrix[rows, cols])
        return matched
    at_row, at_col, minimised = entries
    if not len(minimised):
        return np.full(len(rows), np.inf)
    m = costs.shape[1]
    places, wanted = at_row * m + at_col, rows.astype(np.int64) * m + cols
    at = np.searchsorted(places, wanted).clip(max=len(places) - 1)
    return np.where(places[at] == wanted, minimised[at], np.inf)


def _blocks(costs: Costs) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
    """Rows of the minimised costs, which are their short side, 8 MB of float64 at a time."""
    matrix = costs.matrix
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    step = max(1, 2**20 // max(matrix.shape[1], 1))
    for first in range(0, len(matrix), step):
        some = slice(first, first + step)
        minimised = costs.minimised(matrix[some])
        if not minimised.min(initial=np.inf) > -np.inf:
            raise ValueError(costs.invalid())
        yield some, minimised


def _exact_duals(costs: Costs, v: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Row duals for integers as they are stored, less their shift; rows are the short side.

    Those that bear the shift were rounded to the size of the entries; the best ones for the stored
    entries follow exactly from those of the other side.
    """
    return np.concatenate([np.empty(0)] + [(c - v).min(axis=1) for _, c in _blocks(costs)])
