"""The linear assignment problem: exact, with duals that prove it.

`linear_sum_assignment` is SciPy's function by name, signature and behaviour; `solve` is the
same solver with its whole answer: duals, objective, gap, and matching by magnitude.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bmatch import _core
from bmatch.arrays import Array, is_tensor

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
    pairs = _core.pairs(cost_matrix, maximize, _DEFAULT_THREADS)
    if pairs is not None:
        return pairs
    answer = _solve(cost_matrix, _sense(maximize, False), certificate=False)
    like = _kind_of(cost_matrix)
    return like(answer.row_ind), like(answer.col_ind)


def solve(
    cost: npt.ArrayLike,
    maximize: bool = False,
    *,
    sign_marginalized: bool = False,
    warm_start: Assignment | None = None,
    num_threads: int | None = None,
) -> Assignment:
    """Solve the linear sum assignment problem and return the whole answer.

    Parameters
    ----------
    cost : array_like or torch.Tensor [n, m]
        As for `linear_sum_assignment`. Read where it lies; copied once if ``n > m`` or if
        neither its rows nor its columns are nearly contiguous.
    maximize : bool
        Whether the sum is maximised instead of minimised.
    sign_marginalized : bool
        Maximise the sum of ``|cost|`` and return the signs of the matched entries; no ``|cost|``
        matrix is made. Implies `maximize`.
    warm_start : Assignment, optional
        The answer for a similar square matrix of the same shape, solved in the same sense: its
        column duals are where the search starts. The answer is optimal whatever is passed.
        Rectangular matrices are solved from the beginning.
    num_threads : int, optional
        Threads for the passes over the matrix; by default all physical cores (or as many as the
        environment variable ``BMATCH_NUM_THREADS`` says when bmatch is imported) for matrices of
        16 million entries or more, one for smaller ones. The answer does not depend on it.

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
    Candidate lists with bounds, an auction with epsilon scaling (Bertsekas, Annals of Operations
    Research 14, 1988) and shortest augmenting paths (Jonker and Volgenant, Computing 38, 1987),
    with float64 duals. The GIL is released; Ctrl-C stops the solve.
    """
    sense = _sense(maximize, sign_marginalized)
    answer = _solve(cost, sense, warm_start=warm_start, num_threads=num_threads)
    flip = 1.0 if sense == _Sense.minimize else -1.0
    sign = None
    if sign_marginalized:
        matched = answer.matrix[answer.row_ind, answer.col_ind]
        negative = np.full(len(matched), answer.shift < 0) if answer.shift else matched < 0
        sign = np.where(negative, -1, 1).astype(np.int8)
    like = _kind_of(cost)
    return Assignment(
        row_ind=like(answer.row_ind),
        col_ind=like(answer.col_ind),
        col_of_row=like(answer.col_of_row),
        row_dual=like(flip * answer.row_dual + 0.0),
        col_dual=like(flip * answer.col_dual + 0.0),
        objective=flip * answer.objective + 0.0,
        gap=answer.gap,
        sign=None if sign is None else like(sign),
        stats=answer.stats,
    )


def batch_linear_sum_assignment(
    cost: npt.ArrayLike, maximize: bool = False, *, num_threads: int | None = None
) -> Array:
    """Solve many linear sum assignment problems of one shape, each in one thread.

    Parameters
    ----------
    cost : array_like or torch.Tensor [B, n, m]
        Entries as for `linear_sum_assignment`.
    maximize : bool
        Whether the sums are maximised instead.
    num_threads : int, optional
        Problems solved at once; by default all physical cores.

    Returns
    -------
    col_of_row : int64 [B, n]
        Column of each row; -1 for a row that is left unmatched (``n > m``). A tensor, if a
        tensor was given.

    Raises
    ------
    ValueError
        If the array is not 3-D, contains NaN or ``-inf``, or one of the problems has no complete
        matching; the message then names the first of them.
    TypeError
        If the entries are not numbers that float64 can hold.
    """
    array = _as_floats(cost, 3, "a batch of matrices (3-D array)").array
    sense = _sense(maximize, False)
    status, problem, col_of_row = _core.batch(array, sense, _threads(num_threads))
    if status == _Status.invalid:
        raise ValueError(
            f"matrix contains invalid numeric entries (problem {problem} of the batch)"
        )
    if status == _Status.infeasible:
        try:
            _solve(array[problem], sense)
        except ValueError as error:
            raise ValueError(f"{error} (problem {problem} of the batch)") from None
    result: Array = _kind_of(cost)(col_of_row)
    return result


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
    matrix, shift = _as_floats(cost, 2, "a matrix (2-D array)")
    n, m = matrix.shape
    if isinstance(assignment, Assignment):
        rows, cols = np.asarray(assignment.row_ind), np.asarray(assignment.col_ind)
        duals = assignment
    else:
        rows, cols = (np.asarray(side) for side in assignment)
        duals = solve(cost, maximize, sign_marginalized=sign_marginalized)
    if not (
        len(rows) == len(cols) == min(n, m)
        and len(np.unique(rows)) == len(np.unique(cols)) == min(n, m)
        and (min(n, m) == 0 or (rows.min() >= 0 and cols.min() >= 0))
        and (min(n, m) == 0 or (rows.max() < n and cols.max() < m))
    ):
        raise ValueError(
            f"assignment is no matching of the matrix of shape {(n, m)}: expected {min(n, m)} "
            "distinct rows and as many distinct columns"
        )
    sense = _sense(maximize, sign_marginalized)
    flip = 1.0 if sense == _Sense.minimize else -1.0
    u, v = flip * np.asarray(duals.row_dual), flip * np.asarray(duals.col_dual)
    stored = _sense_of_moved(sense, shift)

    def costs(entries: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        values = entries.astype(np.float64)
        if stored == _Sense.maximize_magnitude:
            return -np.abs(values)
        return values if stored == _Sense.minimize else -values

    least = np.inf
    step = max(1, 2**20 // max(m, 1))  # 8 MB of float64 at a time
    if shift:
        # The duals that bear the shift were rounded to the size of the entries: for the entries as
        # they are stored, the best ones follow exactly from those of the other side.
        u, v = u.copy(), v.copy()
        if n <= m:
            for i in range(0, n, step):
                u[i : i + step] = (costs(matrix[i : i + step]) - v).min(axis=1)
        else:
            v[:] = np.inf
            for i in range(0, n, step):
                reduced = costs(matrix[i : i + step]) - u[i : i + step, None]
                np.minimum(v, reduced.min(axis=0), out=v)
    for i in range(0, n, step):
        reduced = costs(matrix[i : i + step]) - v
        reduced -= u[i : i + step, None]
        least = min(least, float(reduced.min(initial=np.inf)))
    # Duals of what is left unmatched must not be positive; what they lack to 0 is part of the gap.
    spare = np.delete(v, cols) if n < m else np.delete(u, rows)
    if len(spare):
        least = min(least, float((-spare).min()))
    matched = costs(matrix[rows, cols])
    gap = math.fsum([*(matched - v[cols] - u[rows]), *-spare])
    objective = _moved_sum(matched, stored, shift)
    return Certificate(
        objective=flip * objective + 0.0,
        bound=flip * (objective - gap) + 0.0,
        gap=gap,
        min_reduced_cost=least,
    )


def rematch_losses(
    cost: npt.ArrayLike,
    assignment: Assignment,
    *,
    maximize: bool = False,
    sign_marginalized: bool = False,
    search_limit: int | None = None,
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
    search_limit : int, optional
        At most this many rows of the matrix are read for the loss of one row. Default: no limit
        up to n = 1,250, then as many as 2e9 entries in all allow, and at least 256.

    Returns
    -------
    loss : float64 [n]
        At least 0; 0 where another assignment is just as good; inf where there is no other.
        Exact where `exact`, elsewhere a lower bound.
    exact : bool [n]

    Raises
    ------
    ValueError
        If there are more rows than columns, or the assignment is none of this matrix.
    """
    matrix, shift = _as_floats(cost, 2, "a matrix (2-D array)")
    n, m = matrix.shape
    if matrix.shape[0] > matrix.shape[1]:
        raise ValueError(
            f"rematch_losses needs at least as many columns as rows, got shape {matrix.shape}: "
            "pass the transpose, and the assignment of the transpose"
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
    sense = _sense(maximize, sign_marginalized)
    flip = 1.0 if sense == _Sense.minimize else -1.0
    u, v = flip * np.asarray(assignment.row_dual), flip * np.asarray(assignment.col_dual)
    stored = _sense_of_moved(sense, shift)
    if shift:  # row duals of the entries as they are stored: matched pairs have no slack
        matched = matrix[np.arange(n), col_of_row]
        u = (matched if stored == _Sense.minimize else -matched) - v[col_of_row]
    loss, exact = _core.margins(matrix, stored, col_of_row, u, v, search_limit)
    return loss, exact.astype(bool)


def as_matrix(cost: npt.ArrayLike) -> npt.NDArray[Any]:
    """The matrix as float32 or float64 ``[n, m]``, without a copy where it already is one.

    Raises
    ------
    ValueError
        If it holds integers that float64 does not.
    """
    matrix, shift = _as_floats(cost, 2, "a matrix (2-D array)")
    if shift:
        raise ValueError(
            "the matrix holds integers beyond 2**53, which float64 cannot hold one by one: scale "
            "them down, or pass floats"
        )
    return matrix


class _Floats(NamedTuple):
    array: npt.NDArray[Any]  # float32 or float64
    shift: int  # what was subtracted from every entry to keep integers exact


def _as_floats(cost: npt.ArrayLike, ndim: int, kind: str) -> _Floats:
    array = _tensor_as_array(cost) if is_tensor(cost) else np.asarray(cost)
    if array.ndim != ndim:
        raise ValueError(f"expected {kind}, got a {array.ndim} array")
    shift = 0
    if array.dtype not in (np.float32, np.float64) or not array.dtype.isnative:
        if not np.can_cast(array.dtype, np.float64, "safe"):
            raise TypeError(
                f"Cannot cast array data from {array.dtype!r} to dtype('float64') "
                "according to the rule 'safe'"
            )
        if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and array.size:
            array, shift = _exact_integers(array)
        single = np.can_cast(array.dtype, np.float32, "safe")  # half the memory to read
        array = array.astype(np.float32 if single else np.float64)
    if any(stride % array.itemsize for stride in array.strides) or not array.flags.aligned:
        array = array.copy()  # a field of a structured array: no whole number of elements apart
    return _Floats(array, shift)


def _exact_integers(array: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], int]:
    """64-bit integers moved to where float64 holds them all; a constant moves no optimum."""
    low, high = int(array.min()), int(array.max())
    limit = 2**53
    if -limit <= low and high <= limit:
        return array, 0
    if high - low > limit:
        raise ValueError(
            f"cost matrix holds integers from {low} to {high}, further apart than float64 "
            "tells apart (2**53): scale them down, or pass floats"
        )
    return array - array.dtype.type(low), low


def _sense_of_moved(sense: _core.Sense, shift: int) -> _core.Sense:
    """The sense for a matrix from which `shift` was subtracted.

    Magnitudes do not commute with a shift; but integers that had to be moved lie within 2**53 of
    one that is further than that from zero, so all have its sign, and ``|c|`` is c or -c.
    """
    if shift and sense == _Sense.maximize_magnitude:
        return _Sense.maximize if shift > 0 else _Sense.minimize
    return sense


def _moved_sum(costs: npt.NDArray[np.float64], stored: _core.Sense, shift: int) -> float:
    """The sum of minimised costs in the units of the given matrix, to one rounding."""
    if not shift:
        return math.fsum(costs)
    moved = shift if stored == _Sense.minimize else -shift
    return float(sum(map(int, costs.tolist())) + moved * len(costs))


def _threads(asked: int | None = None) -> int:
    """Threads for a solve; negative for the default, which small matrices do not use."""
    if asked is None:
        return _DEFAULT_THREADS
    if asked < 1:
        raise ValueError(f"num_threads must be at least 1, got {asked}: leave it out for all cores")
    return asked


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


_DEFAULT_THREADS = -int(os.environ.get("BMATCH_NUM_THREADS") or _physical_cores())


class _Answer(NamedTuple):
    matrix: npt.NDArray[Any]
    shift: int  # what was subtracted from the entries of `matrix`, and from nothing else
    row_ind: npt.NDArray[np.int64]
    col_ind: npt.NDArray[np.int64]
    col_of_row: npt.NDArray[np.int64]
    row_dual: npt.NDArray[np.float64]  # of the minimised costs, like what follows
    col_dual: npt.NDArray[np.float64]
    objective: float
    gap: float
    stats: Mapping[str, float]


def _solve(
    cost: npt.ArrayLike,
    sense: _core.Sense,
    *,
    certificate: bool = True,
    warm_start: Assignment | None = None,
    num_threads: int | None = None,
) -> _Answer:
    matrix, shift = _as_floats(cost, 2, "a matrix (2-D array)")
    n, m = matrix.shape
    stored = _sense_of_moved(sense, shift)
    # The solver wants the short side as its rows, and the entries of a row side by side.
    columnwise = abs(matrix.strides[0]) < abs(matrix.strides[1])
    flipped = n > m or (n == m and columnwise)
    prices = None
    if warm_start is not None:
        start = warm_start.row_dual if flipped else warm_start.col_dual
        prices = np.asarray(start) * (1.0 if sense == _Sense.minimize else -1.0)
        if len(warm_start.row_dual) != n or len(warm_start.col_dual) != m:
            raise ValueError(
                f"warm_start is the answer for a matrix of shape "
                f"{(len(warm_start.row_dual), len(warm_start.col_dual))}, expected {(n, m)}"
            )
    status, col_of_row, u, v, objective, gap, trapped, stats = _core.solve(
        matrix.T if flipped else matrix,
        stored,
        _threads(num_threads),
        certificate,
        prices,
        flipped and n == m,
    )
    if status == _Status.invalid:
        raise ValueError("matrix contains invalid numeric entries")
    if status == _Status.infeasible:
        raise ValueError(_infeasible(trapped, "columns" if flipped else "rows"))
    if flipped:
        row_ind, col_ind = _sorted_pairs(col_of_row)
        col_of_row = np.full(n, -1, dtype=np.int64)
        col_of_row[row_ind] = col_ind
        u, v = v, u
    else:
        row_ind, col_ind = np.arange(len(col_of_row)), col_of_row.copy()
    if shift and certificate:
        # Back to the costs as they were given: the duals of the side that is matched whole bear it.
        moved = shift if stored == _Sense.minimize else -shift
        matched = matrix[row_ind, col_ind]
        objective = _moved_sum(matched if moved == shift else -matched, stored, shift)
        u, v = (u + moved, v) if n <= m else (u, v + moved)
    return _Answer(matrix, shift, row_ind, col_ind, col_of_row, u, v, objective, gap, stats)


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
