"""What an assignment would lose if a row had to take another column than its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bmatch import _core
from bmatch.assignment.answer import Assignment
from bmatch.assignment.costs import Costs
from bmatch.assignment.factors import Factors


def margins(
    costs: Costs, assignment: Assignment, *, search_limit: int | None = None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """What the objective loses if a row must take another column than its own.

    For each row, the objective of the best assignment that does not use the row's matched
    pair is compared with the optimum: the length of the shortest alternating cycle through
    that pair, found by Dijkstra's method on the reduced costs.

    Parameters
    ----------
    costs : Costs [n, m], n <= m
        On the host.
    assignment : Assignment
        What `bmatch.solve` returned for them.
    search_limit : int, optional
        At most this many rows of the matrix are read for the margin of one row. Default: no limit
        up to n = 1,250, then as many as 2e9 entries in all allow, and at least 256.

    Returns
    -------
    margin : float64 [n]
        At least 0; 0 where another assignment is just as good; inf where there is no other.
        Exact where `exact`, elsewhere a lower bound.
    exact : bool [n]

    Raises
    ------
    ValueError
        If there are more rows than columns, or the assignment is none of this matrix, or one that
        may leave rows unmatched.
    """
    matrix = costs.matrix
    n, m = costs.shape
    if n > m:
        raise ValueError(
            f"margins need at least as many columns as rows, got shape {(n, m)}: pass the "
            "transpose, and the assignment of the transpose"
        )
    if assignment.partial or assignment.cost_limit is not None:
        raise ValueError(
            "margins compare complete assignments, and this one was found with partial or "
            "cost_limit: pass what bmatch.solve returns without them"
        )
    col_of_row = np.asarray(assignment.col_of_row)
    fits = (
        col_of_row.shape == (n,)
        and np.shape(assignment.row_dual) == (n,)
        and np.shape(assignment.col_dual) == (m,)
        and len(np.unique(col_of_row)) == n
        and bool(np.all((col_of_row >= 0) & (col_of_row < m)))
    )
    if not fits:
        raise ValueError(f"the assignment is not one of this matrix, whose shape is {(n, m)}")
    if search_limit is None:
        search_limit = max(256, 2_000_000_000 // max(n * m, 1))
    u = costs.flip * np.asarray(assignment.row_dual)
    v = costs.flip * np.asarray(assignment.col_dual)
    if costs.shift:  # row duals of the entries as they are stored: matched pairs have no slack
        u = costs.minimised(matrix[np.arange(n), col_of_row]) - v[col_of_row]
    if isinstance(matrix, Factors):
        return matrix.source.margins(costs.sense, col_of_row, u, v, search_limit)
    return _core.margins(matrix, costs.stored_sense, col_of_row, u, v, search_limit)
