"""The functions of the package lap (and of lapx, which is imported as lap).

``from bmatch.compat import lap`` in place of ``import lap``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from bmatch.assignment.solver import limited_pairs, linear_sum_assignment

_Indexes: TypeAlias = npt.NDArray[np.int32]

LARGE = 1_000_000
"""What costs of `lapmod` must be below, in lap and here."""

FP_1, FP_2, FP_DYNAMIC = 1, 2, 3
"""Ways that lap's `lapmod` has to find a path; here there is one."""


@overload
def lapjv(
    cost: npt.ArrayLike,
    extend_cost: bool = ...,
    cost_limit: float = ...,
    return_cost: Literal[True] = ...,
) -> tuple[float, _Indexes, _Indexes]: ...


@overload
def lapjv(
    cost: npt.ArrayLike,
    extend_cost: bool = ...,
    cost_limit: float = ...,
    *,
    return_cost: Literal[False],
) -> tuple[_Indexes, _Indexes]: ...


@overload
def lapjv(
    cost: npt.ArrayLike, extend_cost: bool, cost_limit: float, return_cost: Literal[False]
) -> tuple[_Indexes, _Indexes]: ...


def lapjv(
    cost: npt.ArrayLike,
    extend_cost: bool = False,
    cost_limit: float = np.inf,
    return_cost: bool = True,
) -> tuple[float, _Indexes, _Indexes] | tuple[_Indexes, _Indexes]:
    """Solve a dense linear assignment problem; what `lap.lapjv` takes and returns.

    Parameters
    ----------
    cost : array_like [n, m]
        Costs to minimise; ``+inf`` forbids a pair.
    extend_cost : bool
        Whether the matrix may have another number of rows than of columns. A finite `cost_limit`
        allows that too, as in lapx.
    cost_limit : float
        No pair above it is matched: a row and a column may stay unmatched at half of it each.
    return_cost : bool
        Whether the sum of the matched costs is returned too.

    Returns
    -------
    opt : float
        Sum of the matched costs; not returned if `return_cost` is False. ``inf`` where there is no
        complete matching: `x` and `y` are then one that has as few forbidden pairs as possible.
    x : int32 [n]
        Column of each row, -1 for a row that is left unmatched.
    y : int32 [m]
        Row of each column, -1 likewise.

    Raises
    ------
    ValueError
        If `cost` is not 2-D, or not square although neither `extend_cost` nor `cost_limit` says
        that it need not be; if `cost_limit` is NaN or ``-inf``; if `cost` holds NaN or ``-inf``,
        which lap does not look for.

    Notes
    -----
    Among equally good answers lap may return another one. Nothing is padded, extended or copied.
    """
    costs = _as_floats(cost)
    if costs.ndim != 2:
        raise ValueError("2-dimensional array expected")
    n, m = costs.shape
    if np.isnan(cost_limit) or cost_limit == -np.inf:
        raise ValueError("cost_limit must be finite or positive infinity")
    limited = cost_limit < np.inf
    if n != m and not (extend_cost or limited):
        raise ValueError(
            "Square cost array expected. If cost is intentionally non-square, pass "
            "extend_cost=True or set a finite cost_limit."
        )
    if limited:
        rows, cols = limited_pairs(costs, float(cost_limit))
    else:
        rows, cols = _complete(costs)
    x, y = np.full(n, -1, np.int32), np.full(m, -1, np.int32)
    x[rows] = cols
    y[cols] = rows
    if not return_cost:
        return x, y
    return float(costs[rows, cols].sum(dtype=np.float64)), x, y


def _complete(costs: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Pairs of a complete matching, with as few forbidden pairs as possible."""
    try:
        rows, cols = linear_sum_assignment(costs)
    except ValueError:
        if not np.all(costs > -np.inf):  # NaN, or -inf
            raise
        rows, cols = linear_sum_assignment(np.isinf(costs))
    return rows, cols  # type: ignore[return-value]


def _as_floats(cost: npt.ArrayLike) -> npt.NDArray[Any]:
    """As lap reads costs, in float64; float32, which float64 holds, without a copy."""
    costs = np.asarray(cost)
    return costs if costs.dtype == np.float32 else costs.astype(np.float64, copy=False)


def lapmod(
    n: int,
    cc: npt.ArrayLike,
    ii: npt.ArrayLike,
    kk: npt.ArrayLike,
    fast: bool = True,
    return_cost: bool = True,
    fp_version: int = FP_DYNAMIC,
) -> tuple[float, _Indexes, _Indexes] | tuple[_Indexes, _Indexes]:
    """Solve a sparse linear assignment problem; what `lap.lapmod` takes and returns.

    Parameters
    ----------
    n : int
        Rows, and columns.
    cc : array_like [entries]
        Costs of the allowed pairs, row by row; at least 0 and less than `LARGE`.
    ii : array_like, int [n + 1]
        Where each row begins in `cc`, and where the last one ends.
    kk : array_like, int [entries]
        The column of each cost.
    fast : bool
        Not used: which code of lap's own runs.
    return_cost : bool
        Whether the sum of the matched costs is returned too.
    fp_version : int
        Not used: how lap finds a path.

    Returns
    -------
    opt : float
        Sum of the matched costs; not returned if `return_cost` is False. ``inf`` where there is no
        complete matching: `x` and `y` are then one that has as few forbidden pairs as possible.
    x, y : int32 [n]
        Column of each row, row of each column.

    Raises
    ------
    ValueError
        If there are no rows or no entries, if a cost is negative or not less than `LARGE`, or if
        the arrays do not fit one another.
    TypeError
        If costs are no numbers, or indices no integers.

    Notes
    -----
    Among equally good answers lap may return another one. Columns of a row need not be sorted.
    """
    costs = np.asarray(cc)
    sparse = _Csr(np.asarray(ii), np.asarray(kk), costs, (n, n))
    if n == 0:
        raise ValueError("Cost matrix has zero rows.")
    if len(sparse.indices) == 0:
        raise ValueError("Cost matrix has zero columns.")
    if not costs.min() >= 0:
        raise ValueError("Cost matrix values must be non-negative.")
    if costs.max() >= LARGE:
        raise ValueError(f"Cost matrix values must be less than {LARGE}")
    rows, cols, solvable = _complete_sparse(sparse)
    x, y = np.empty(n, np.int32), np.empty(n, np.int32)
    x[rows] = cols
    y[cols] = rows
    if not return_cost:
        return x, y
    if not solvable:
        return np.inf, x, y
    matched = sparse.indices == np.repeat(x, np.diff(sparse.indptr))
    return float(costs[matched].sum(dtype=np.float64)), x, y


@dataclass(frozen=True)
class _Csr:
    """A sparse matrix as the solver recognises it."""

    indptr: npt.NDArray[Any]
    indices: npt.NDArray[Any]
    data: npt.NDArray[Any]
    shape: tuple[int, int]


def _complete_sparse(sparse: _Csr) -> tuple[npt.NDArray[Any], npt.NDArray[Any], bool]:
    """Pairs of a complete matching with as few forbidden pairs as possible; whether it has none."""
    try:
        rows, cols = linear_sum_assignment(sparse)  # type: ignore[arg-type]
    except ValueError as error:
        if not str(error).startswith("cost matrix is infeasible"):
            raise
    else:
        return rows, cols, True  # type: ignore[return-value]
    # A column more for each row, at a cost: rows that take it have no allowed pair.
    n = sparse.shape[0]
    ends = sparse.indptr[1:]
    relaxed = _Csr(
        sparse.indptr + np.arange(n + 1),
        np.insert(sparse.indices.astype(np.int64), ends, n + np.arange(n)),
        np.insert(np.zeros(len(sparse.indices)), ends, 1.0),
        (n, 2 * n),
    )
    rows, cols = map(np.asarray, linear_sum_assignment(relaxed))  # type: ignore[arg-type]
    alone = cols >= n
    cols[alone] = np.setdiff1d(np.arange(n), cols)
    return rows, cols, False
