"""The linear assignment problem: exact, with duals that prove it.

`linear_sum_assignment` is SciPy's function by name, signature and behaviour; `solve` is the
same solver with its whole answer: duals, objective, gap, and matching by magnitude.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from bmatch import _core

if TYPE_CHECKING:
    import torch

Array: TypeAlias = "npt.NDArray[Any] | torch.Tensor"
"""Arrays in, arrays out; tensors in, tensors out."""

_Sense = _core.Sense
_Status = _core.Status


@dataclass(frozen=True, eq=False)
class Assignment:
    """An optimal assignment of an ``[n, m]`` matrix and the proof that it is one.

    Arrays are NumPy arrays, or tensors on the device of the matrix if that was a tensor.

    Attributes
    ----------
    row_ind, col_ind : int64 [min(n, m)]
        Matched pairs, rows ascending: what `scipy.optimize.linear_sum_assignment` returns.
    col_of_row : int64 [n]
        Column of each row, -1 for a row that is left unmatched.
    row_dual, col_dual : float64 [n], [m]
        An optimal solution of the dual, in the units of the matrix. When minimising,
        ``row_dual[i] + col_dual[j] <= cost[i, j]`` for all pairs, with equality on matched
        ones; when maximising, ``>=``; and where ``|cost|`` is maximised, ``>= |cost[i, j]|``.
    objective : float
        Sum of the matched entries (of their magnitudes where those are maximised).
    gap : float
        No assignment is better than this one by more than `gap`; 0, or a few roundings.
    sign : int8 [min(n, m)] or None
        Sign of each matched entry, where magnitudes were matched; +1 for a zero.
    """

    row_ind: Array
    col_ind: Array
    col_of_row: Array
    row_dual: Array
    col_dual: Array
    objective: float
    gap: float
    sign: Array | None = None
    stats: Mapping[str, float] = field(default_factory=dict)


def linear_sum_assignment(
    cost_matrix: npt.ArrayLike, maximize: bool = False
) -> tuple[Array, Array]:
    """Solve the linear sum assignment problem; a drop-in for SciPy's function of this name.

    Parameters
    ----------
    cost_matrix : array_like or torch.Tensor [n, m]
        Any boolean, integer or floating type that casts safely to float64. ``+inf`` forbids a
        pair (``-inf`` when maximising). Neither copied where it is float32 or float64, nor
        written to.
    maximize : bool
        Whether the sum is maximised instead.

    Returns
    -------
    row_ind, col_ind : int64 [min(n, m)]
        Matched pairs, rows ascending. Tensors, if a tensor was given. Among equally good
        answers the same one is returned on every run; a constant matrix gives the identity.

    Raises
    ------
    ValueError
        If the matrix is not 2-D, contains NaN or ``-inf``, or has no complete matching.
    TypeError
        If the entries are not numbers that float64 can hold.

    Examples
    --------
    >>> import bmatch
    >>> row_ind, col_ind = bmatch.linear_sum_assignment([[4, 1, 3], [2, 0, 5], [3, 2, 2]])
    >>> col_ind
    array([1, 0, 2])
    """
    pairs = _core.pairs(cost_matrix, maximize, 1)
    if pairs is not None:
        return pairs
    result = solve(cost_matrix, maximize=maximize)
    return result.row_ind, result.col_ind


def solve(
    cost: npt.ArrayLike, maximize: bool = False, *, sign_marginalized: bool = False
) -> Assignment:
    """Solve the linear sum assignment problem and return the whole answer.

    Parameters
    ----------
    cost : array_like or torch.Tensor [n, m]
        As for `linear_sum_assignment`.
    maximize : bool
        Whether the sum is maximised instead of minimised.
    sign_marginalized : bool
        Maximise the sum of ``|cost|`` and return the signs of the matched entries; no ``|cost|``
        matrix is made. Implies `maximize`.

    Returns
    -------
    Assignment

    Raises
    ------
    ValueError
        If the matrix is not 2-D, contains NaN or ``-inf`` (``+inf`` when maximising), or has no
        complete matching; the message then names rows that compete for too few columns.
    TypeError
        If the entries are not numbers that float64 can hold.

    Notes
    -----
    Shortest augmenting paths (Jonker and Volgenant, Computing 38, 1987) with float64 duals.
    The GIL is released; Ctrl-C stops the solve.
    """
    matrix = as_matrix(cost)
    sense = _sense(maximize, sign_marginalized)
    tall = matrix.shape[0] > matrix.shape[1]  # the solver wants the short side as its rows
    status, col_of_row, u, v, objective, gap, trapped, stats = _core.solve(
        matrix.T if tall else matrix, sense
    )
    if status == _Status.invalid:
        raise ValueError("matrix contains invalid numeric entries")
    if status == _Status.infeasible:
        raise ValueError(_infeasible(trapped, "columns" if tall else "rows"))

    if tall:
        row_ind, col_ind = _sorted_pairs(col_of_row)
        col_of_row = np.full(matrix.shape[0], -1, dtype=np.int64)
        col_of_row[row_ind] = col_ind
        u, v = v, u
    else:
        row_ind, col_ind = np.arange(len(col_of_row)), col_of_row.copy()
    if sense != _Sense.minimize:
        u, v, objective = -u, -v, -objective + 0.0

    sign = None
    if sign_marginalized:
        sign = np.where(matrix[row_ind, col_ind] < 0, -1, 1).astype(np.int8)
    like = _kind_of(cost)
    return Assignment(
        row_ind=like(row_ind),
        col_ind=like(col_ind),
        col_of_row=like(col_of_row),
        row_dual=like(u),
        col_dual=like(v),
        objective=objective,
        gap=gap,
        sign=None if sign is None else like(sign),
        stats=stats,
    )


def rematch_losses(
    cost: npt.ArrayLike,
    assignment: Assignment,
    *,
    maximize: bool = False,
    sign_marginalized: bool = False,
    search_limit: int = 256,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """What the objective loses if a row must take another column than its own.

    For each row, the objective of the best assignment that does not use the row's matched
    pair is compared with the optimum: the length of the shortest alternating cycle through
    that pair, found by Dijkstra's method on the reduced costs.

    Parameters
    ----------
    cost, maximize, sign_marginalized
        As they were given to `solve`; ``n <= m``.
    assignment : Assignment
        What `solve` returned for them.
    search_limit : int
        At most this many rows of the matrix are read for the margin of one row.

    Returns
    -------
    loss : float64 [n]
        At least 0; 0 where another assignment is just as good; inf where there is no other.
        Exact where `exact`, elsewhere a lower bound.
    exact : bool [n]

    Raises
    ------
    ValueError
        If there are more rows than columns.
    """
    matrix = as_matrix(cost)
    if matrix.shape[0] > matrix.shape[1]:
        raise ValueError(
            f"rematch_losses needs at least as many columns as rows, got shape {matrix.shape}: "
            "pass the transpose, and the assignment of the transpose"
        )
    sense = _sense(maximize, sign_marginalized)
    flip = 1.0 if sense == _Sense.minimize else -1.0
    loss, exact = _core.margins(
        matrix,
        sense,
        np.asarray(assignment.col_of_row),
        flip * np.asarray(assignment.row_dual),
        flip * np.asarray(assignment.col_dual),
        search_limit,
    )
    return loss, exact.astype(bool)


def as_matrix(cost: npt.ArrayLike) -> npt.NDArray[Any]:
    """The matrix as float32 or float64 ``[n, m]``, without a copy where it already is one."""
    array = _tensor_as_array(cost) if is_tensor(cost) else np.asarray(cost)
    if array.ndim != 2:
        raise ValueError(f"expected a matrix (2-D array), got a {array.ndim} array")
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    elif array.dtype not in (np.float32, np.float64) or not array.dtype.isnative:
        if not np.can_cast(array.dtype, np.float64, "safe"):
            raise TypeError(
                f"Cannot cast array data from {array.dtype!r} to dtype('float64') "
                "according to the rule 'safe'"
            )
        array = array.astype(np.float64)
    if any(stride % array.itemsize for stride in array.strides) or not array.flags.aligned:
        array = array.copy()  # a field of a structured array: no whole number of elements apart
    return array


def is_tensor(value: object) -> bool:
    """Whether `value` is a torch tensor; never imports torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _sense(maximize: bool, sign_marginalized: bool) -> _core.Sense:
    if sign_marginalized:
        return _Sense.maximize_magnitude
    return _Sense.maximize if maximize else _Sense.minimize


def _tensor_as_array(tensor: Any) -> npt.NDArray[Any]:
    import torch

    if tensor.device.type != "cpu":
        raise ValueError(
            f"the cost matrix is on {tensor.device}, and this solver runs on the CPU: pass "
            "cost.cpu(); nothing is moved between devices unasked"
        )
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    array: npt.NDArray[Any] = tensor.detach().resolve_neg().numpy()
    return array


def _kind_of(cost: object) -> Any:
    """The function that makes a result array of the kind of `cost`."""
    if not is_tensor(cost):
        return lambda array: array
    import torch

    return torch.from_numpy


def _sorted_pairs(
    row_of_col: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    col_ind = np.argsort(row_of_col)
    return row_of_col[col_ind], col_ind


def _infeasible(trapped: npt.NDArray[np.int64], kind: str) -> str:
    other = "rows" if kind == "columns" else "columns"
    shown = ", ".join(map(str, trapped[:10])) + (", ..." if len(trapped) > 10 else "")
    if len(trapped) == 1:
        return f"cost matrix is infeasible: {kind[:-1]} {shown} has no finite entry"
    return (
        f"cost matrix is infeasible: the {len(trapped)} {kind} {shown} have finite entries in "
        f"only {len(trapped) - 1} {other}"
    )
