"""Partial assignments: what may stay unmatched, and the blocks in which a proof is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from bmatch.arrays import as_array, full
from bmatch.assignment.costs import Costs, counted
from bmatch.assignment.entries import EXACT

_Indices: TypeAlias = npt.NDArray[Any]

Reach: TypeAlias = Callable[[_Indices], _Indices]
"""From some rows to the columns with which one of them is allowed, ascending; or the other way."""


def allowing(costs: Costs, cost_limit: Any, partial: bool, given: Any = None) -> Costs:
    """The same costs, of which rows and columns may stay unmatched.

    Parameters
    ----------
    costs : Costs [n, m] or [B, n, m]
    cost_limit : float, or array_like [B] for a batch, or None
    partial : bool
    given
        What `costs` were made of, if that may have been moved problem by problem.

    Raises
    ------
    ValueError
        If a limit is NaN or forbids every pair, or there is not one for each problem; or if the
        entries are integers that were moved to where float64 holds them.
    TypeError
        If `partial` is no boolean, or a limit no number.
    """
    if not isinstance(partial, (bool, np.bool_)):
        raise TypeError(f"partial must be True or False, got {partial!r:.60}")
    if cost_limit is None:
        return costs._replace(partial=bool(partial))
    problems = costs.shape[:-2]
    try:
        limit: Any = np.asarray(as_array(cost_limit)).astype(np.float64) if problems else None
        limit = limit if problems else float(cost_limit)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"cost_limit must be a number, got {cost_limit!r:.60}") from None
    if problems and limit.shape not in ((), problems):
        raise ValueError(
            f"cost_limit must be one number, or one for each of the {problems[0]} problems, got an "
            f"array of shape {limit.shape}"
        )
    limit = costs.flip * limit
    if not _every(limit > -np.inf):
        none = "inf" if costs.flip > 0 else "-inf"
        raise ValueError(
            f"cost_limit must be a finite number, or {none} for no limit, got {cost_limit!r:.60}"
        )
    if _every(limit == np.inf):
        return costs._replace(partial=bool(partial))
    if costs.shift or _is_beyond_float64(given):
        raise ValueError(
            "cost_limit takes integers that float64 holds one by one, up to 2**53: scale the "
            "matrix down, or pass floats"
        )
    if problems:
        limit = np.broadcast_to(limit, problems).copy()
    return costs._replace(limit=limit, partial=bool(partial))


def _every(flags: Any) -> bool:
    """Whether a flag, or all of an array, is true; of one flag, without NumPy."""
    return flags if isinstance(flags, bool) else bool(flags.all())


def _is_beyond_float64(entries: Any) -> bool:
    """Whether these are integers that float64 does not hold one by one."""
    if entries is None:
        return False
    if not hasattr(entries, "dtype"):
        entries = np.asarray(entries)
    is_long = str(entries.dtype).removeprefix("torch.") in ("int64", "uint64")
    if not is_long or 0 in entries.shape:
        return False
    return int(entries.min()) < -EXACT or int(entries.max()) > EXACT


def partial_pairs(costs: Costs, col_of_row: Any) -> tuple[Any, Any, Any]:
    """As `answer.pairs_of`, where some of the solver's rows have no column."""
    if costs.transposed:
        row_of_col = col_of_row
        col_of_row = full(costs.shape[0], -1, like=row_of_col)
        matched = _nonzero(row_of_col >= 0)
        col_of_row[row_of_col[matched]] = matched
    row_ind = _nonzero(col_of_row >= 0)
    return row_ind, col_of_row[row_ind], col_of_row


def _nonzero(flags: Any) -> Any:
    found = flags.nonzero()
    return found[0] if isinstance(found, tuple) else found[:, 0]


def neighbours(major: _Indices, minor: _Indices, size: int) -> Reach:
    """The minor indices that stand beside some of the major ones, which are below `size`."""
    order = np.argsort(major, kind="stable")
    minor = minor[order]
    start = np.concatenate([[0], np.cumsum(np.bincount(major, minlength=size))])

    def reach(some: _Indices) -> _Indices:
        count = start[some + 1] - start[some]
        before = np.cumsum(count) - count
        at = np.repeat(start[some] - before, count) + np.arange(count.sum())
        return np.unique(minor[at])

    return reach


def blocks(
    shape: tuple[int, int], cols_of: Reach, rows_of: Reach, rows: _Indices, cols: _Indices
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Rows and columns of the blocks within which all matchings of as many pairs lie.

    Rows that alternating paths reach from unmatched rows compete for too few columns; columns
    that they reach from unmatched columns, for too few rows; the others match one another
    (Dulmage and Mendelsohn, Canadian Journal of Mathematics 10, 1958).

    Parameters
    ----------
    shape : (n, m)
    cols_of, rows_of : Reach
        Which pairs are allowed, from either side.
    rows, cols : int64 [k]
        The pairs of a matching.

    Raises
    ------
    ValueError
        If there is a matching of more pairs.
    """
    n, m = shape
    col_of_row, row_of_col = np.full(n, -1), np.full(m, -1)
    col_of_row[rows], row_of_col[cols] = cols, rows
    over_rows, over_cols = _reached(cols_of, col_of_row, row_of_col)
    under_cols, under_rows = _reached(rows_of, row_of_col, col_of_row)
    if (over_rows & under_rows).any() or (over_cols & under_cols).any():
        raise ValueError(
            f"assignment has {counted(len(rows), 'pair')}, and there is a matching of more: as "
            "many as possible were expected"
        )
    even = ~(over_rows | under_rows), ~(over_cols | under_cols)
    parts = (over_rows, over_cols), even, (under_rows, under_cols)
    return [(np.flatnonzero(i), np.flatnonzero(j)) for i, j in parts]


def _reached(
    cols_of: Reach, col_of_row: _Indices, row_of_col: _Indices
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Rows and columns that alternating paths reach from unmatched rows."""
    rows, cols = col_of_row < 0, np.zeros(len(row_of_col), bool)
    frontier = np.flatnonzero(rows)
    while len(frontier):
        found = cols_of(frontier)
        found = found[~cols[found]]
        cols[found] = True
        frontier = row_of_col[found]
        frontier = frontier[frontier >= 0]
        rows[frontier] = True
    return rows, cols
