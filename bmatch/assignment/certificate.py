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
from bmatch.assignment.factors import Factors
from bmatch.assignment.partial import Reach, allowing, blocks, neighbours
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
        What no assignment can beat, by the duals: a lower bound when minimising. Under a
        `cost_limit`, the half of it for each unmatched row and column is left out of both.
    gap : float
        Distance of the two, summed without cancellation from the reduced costs of the matched
        pairs, and from what duals that are not feasible would have to be lowered by. Reduced costs
        are exact, so that no rounding is hidden; an optimal assignment has 0, or a few roundings.
        NaN for duals that are not finite.
    min_reduced_cost : float
        Least ``cost[i, j] - row_dual[i] - col_dual[j]`` of all pairs (of the negated costs where
        the sum is maximised), and of what duals of the longer side lack to the sign that they
        must have, or all duals to half of a `cost_limit`; not below 0, or by a few roundings, if
        the duals are feasible. Where there is no complete matching, of the pairs that some
        matching of as many pairs may have.
    """

    objective: float
    bound: float
    gap: float
    min_reduced_cost: float


def certify(
    cost: npt.ArrayLike | Factors,
    assignment: Assignment | tuple[npt.ArrayLike, npt.ArrayLike],
    maximize: bool = False,
    *,
    sign_marginalized: bool = False,
    cost_limit: float | None = None,
    partial: bool = False,
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
    cost_limit, partial
        As for `solve`, of bare pairs; an `Assignment` brings its own. Where pairs are fewer than
        ``min(n, m)`` and `partial`, it is checked that no matching has more, and then each of the
        three blocks of rows and columns within which all matchings of as many pairs lie is
        a problem of its own.

    Returns
    -------
    Certificate
        Optimality is proved where `gap` and `min_reduced_cost` are 0 up to rounding.

    Raises
    ------
    ValueError
        If the pairs are no matching of ``min(n, m)`` rows and columns, or of as many as possible,
        where fewer are allowed; if there is not a dual for each row and column, or for a matrix
        that `solve` refuses.
    TypeError
        If rows and columns are not given by whole numbers, or for what `solve` refuses.
    """
    sense, forbids = sense_of(maximize, sign_marginalized), forbids_nonfinite(nonfinite)
    costs: Any = (SparseCosts if is_sparse(cost) else Costs).of(cost, sense, forbids=forbids)
    n, m = costs.shape
    if isinstance(assignment, Assignment):
        rows, cols = _indices(assignment.row_ind), _indices(assignment.col_ind)
        costs = allowing(costs, assignment.cost_limit, assignment.partial)
        _require_matching(rows, cols, costs)
        duals = assignment
    else:
        rows, cols = (_indices(side) for side in _pair(assignment))
        costs = allowing(costs, cost_limit, partial)
        _require_matching(rows, cols, costs)
        duals = solved(costs)
    u, v = (
        costs.flip * as_array(dual).astype(np.float64) for dual in (duals.row_dual, duals.col_dual)
    )
    if (u.shape, v.shape) != ((n,), (m,)):
        raise ValueError(
            f"the duals of the assignment have shapes {u.shape} and {v.shape}, expected "
            f"{(n,)} and {(m,)} for a matrix of shape {(n, m)}"
        )
    if costs.limit is not None or len(rows) == min(n, m):
        return _checked(costs, rows, cols, u, v)
    col_of_row = np.full(n, -1)
    col_of_row[rows] = cols
    place = np.full(m, -1)  # of a column in its block
    parts = []
    for some, of in blocks((n, m), *_allowed(costs), rows, cols):
        place[of] = np.arange(len(of))
        block = costs.block(some, of)
        matched = np.flatnonzero(col_of_row[some] >= 0)
        parts.append(_checked(block, matched, place[col_of_row[some[matched]]], u[some], v[of]))
    return Certificate(
        objective=math.fsum(part.objective for part in parts),
        bound=math.fsum(part.bound for part in parts),
        gap=math.fsum(part.gap for part in parts),
        min_reduced_cost=float(np.min([part.min_reduced_cost for part in parts])),
    )


def _checked(
    costs: Costs | SparseCosts,
    rows: npt.NDArray[Any],
    cols: npt.NDArray[Any],
    u: npt.NDArray[np.float64],
    v: npt.NDArray[np.float64],
) -> Certificate:
    """The certificate for pairs and duals, of the minimised costs: complete, or under a limit."""
    n, m = costs.shape
    # In what follows rows are the short side.
    i, j = (cols, rows) if n > m else (rows, cols)
    if n > m:
        u, v = v, u
    entries = None
    if isinstance(costs, SparseCosts):
        entries = entries_of(costs)
    elif costs.shift:
        u = _exact_duals(costs, v)
    matched = _matched_costs(costs, entries, rows, cols)
    half = 0.0 if costs.limit is None else costs.limit / 2
    scale = 1.0
    if not all(np.all(np.abs(x) < _HUGE) for x in (u, v, matched, half)):
        scale, u, v, half = _DOWN, u * _DOWN, v * _DOWN, half * _DOWN
    least, spare = np.inf, np.empty(0)
    # Duals of what may stay unmatched are bounded by what that costs, which is nothing for the
    # longer side where the other is matched whole.
    if n != m or costs.limit is not None:
        least = float((half - v).min(initial=np.inf))
        v = np.minimum(v, half)
        spare = half - np.delete(v, j)
    if costs.limit is not None:
        least = min(least, float((half - u).min(initial=np.inf)))
        u = np.minimum(u, half)
        spare = np.concatenate([spare, half - np.delete(u, i)])
    proving = bool(np.isfinite(u).all() and np.isfinite(v).all())
    lack = np.zeros(len(u))  # what row duals must be lowered by
    if entries is not None and proving:
        at_row, at_col, minimised = entries
        if n > m:
            at_row, at_col = at_col, at_row
        reduced = _reduced(minimised * scale, u[at_row], v[at_col])
        least = min(least, float(reduced.min(initial=np.inf)))
        np.maximum.at(lack, at_row, -reduced)
    for some, minimised in () if isinstance(costs, SparseCosts) else _blocks(costs):
        if not proving:
            continue
        of_rows = _least_reduced(minimised * scale, u[some], v)
        least = min(least, float(of_rows.min(initial=np.inf)))
        lack[some] = np.maximum(-of_rows, 0.0)
    gap = math.nan
    if np.isinf(matched).any():  # a forbidden pair
        gap = math.inf
    elif proving:
        gap = math.fsum([*_reduced(matched * scale, u[i], v[j]), *lack, *spare]) / scale
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


def _require_matching(rows: npt.NDArray[Any], cols: npt.NDArray[Any], costs: Costs) -> None:
    (n, m), pairs = costs.shape, len(rows)
    if not (
        len(cols) == pairs
        and (pairs == min(n, m) or (costs.is_partial and pairs < min(n, m)))
        and len(np.unique(rows)) == len(np.unique(cols)) == pairs
        and (pairs == 0 or (rows.min() >= 0 and cols.min() >= 0))
        and (pairs == 0 or (rows.max() < n and cols.max() < m))
    ):
        most = "at most " if costs.is_partial else ""
        raise ValueError(
            f"assignment is no matching of the matrix of shape {(n, m)}: expected {most}"
            f"{counted(min(n, m), 'distinct row')} and as many distinct columns"
        )


def _allowed(costs: Any) -> tuple[Reach, Reach]:
    """Which pairs are allowed: columns of rows, rows of columns."""
    n, m = costs.shape
    if isinstance(costs, SparseCosts):
        at_row, at_col, _ = entries_of(costs)
        return neighbours(at_row, at_col, n), neighbours(at_col, at_row, m)
    finite = np.empty((n, m), bool)
    oriented = finite.T if n > m else finite
    for some, minimised in _blocks(costs):
        oriented[some] = minimised < np.inf
    return (
        lambda rows: np.flatnonzero(finite[rows].any(axis=0)),
        lambda cols: np.flatnonzero(finite[:, cols].any(axis=1)),
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
