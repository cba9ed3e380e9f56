"""The dense function of the package lap (and of lapx, which is imported as lap).

``from bmatch.compat import lap`` in place of ``import lap``.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from bmatch.assignment.solver import linear_sum_assignment

_Indexes: TypeAlias = npt.NDArray[np.int32]


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
    Among equally good answers lap may return another one. Nothing is padded or extended: leaving a
    pair's row and column unmatched costs as much as an entry of `cost_limit`.
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
        # Entries above the limit stand for leaving both sides alone.
        costs = costs.astype(np.float64, copy=False)
        rows, cols = linear_sum_assignment(np.minimum(costs, cost_limit))
        kept = costs[rows, cols] <= cost_limit
        rows, cols = rows[kept], cols[kept]
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
