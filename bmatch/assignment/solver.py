"""The linear assignment problem: exact, with duals that prove it.

`linear_sum_assignment` is SciPy's function by name, signature and behaviour; `solve` is the
same solver with its whole answer: duals, objective, gap, and matching by magnitude.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bmatch import _core
from bmatch.arrays import Array, is_tensor
from bmatch.assignment import cuda, device, host
from bmatch.assignment.costs import BATCH, MATRIX, as_floats, moved_sum, sense_of, sense_of_moved
from bmatch.assignment.device import Backend, runs_on_device
from bmatch.assignment.host import Answer, Start

_Sense = _core.Sense
_Outcome = _core.Outcome


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

    Notes
    -----
    Beyond 1,024 entries, which take some microseconds, the GIL is released.

    Examples
    --------
    >>> import bmatch
    >>> row_ind, col_ind = bmatch.linear_sum_assignment([[4, 1, 3], [2, 0, 5], [3, 2, 2]])
    >>> col_ind
    array([1, 0, 2])
    """
    pairs = _core.pairs(cost_matrix, maximize, host.threads())
    if pairs is not None:
        return pairs
    answer = _solve(cost_matrix, sense_of(maximize, False), certificate=False)
    like = _kind_of(cost_matrix)
    return like(answer.row_ind), like(answer.col_ind)


def solve(
    cost: npt.ArrayLike,
    maximize: bool = False,
    *,
    sign_marginalized: bool = False,
    warm_start: Assignment | None = None,
    num_threads: int | None = None,
    backend: Backend = "auto",
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
    backend : {"auto", "cpu", "cuda"}
        Where a matrix on a CUDA device is solved: there, or on the host, to which it is copied
        and from which the answer comes back. ``"auto"``: there from 128 rows on. What lies on the
        host is solved on the host.

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
    with float64 duals. The GIL is released; Ctrl-C stops the solve on the host. A device works on
    its current stream, and the host waits for it once; while a CUDA graph is captured it does not
    wait, and `objective` and `gap` are NaN.
    """
    sense = sense_of(maximize, sign_marginalized)
    answer = _solve(cost, sense, warm_start=warm_start, num_threads=num_threads, backend=backend)
    flip = 1.0 if sense == _Sense.minimize else -1.0
    sign = None
    if sign_marginalized:
        matched = answer.matrix[answer.row_ind, answer.col_ind]
        negative = np.full(len(matched), answer.shift < 0) if answer.shift else matched < 0
        sign = 1 - 2 * _as_int8(negative)
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
    cost: npt.ArrayLike,
    maximize: bool = False,
    *,
    num_threads: int | None = None,
    backend: Backend = "auto",
) -> Array:
    """Solve many linear sum assignment problems of one shape, each in one thread.

    On a CUDA device each is solved by one warp, or by one block if it has more than 64 rows.

    Parameters
    ----------
    cost : array_like or torch.Tensor [B, n, m]
        Entries as for `linear_sum_assignment`.
    maximize : bool
        Whether the sums are maximised instead.
    num_threads : int, optional
        Problems solved at once; by default all physical cores.
    backend : {"auto", "cpu", "cuda"}
        As for `solve`; ``"auto"`` solves a batch where it lies.

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
    sense = sense_of(maximize, False)
    if runs_on_device(cost, backend):
        result: Array = _kind_of(cost)(device.solve_batch(cost, sense))
        return result
    array = as_floats(cuda.on_host(cost), 3, BATCH).array
    outcome, problem, col_of_row = _core.batch(array, sense, host.threads(num_threads))
    if outcome == _Outcome.invalid:
        raise ValueError(
            f"matrix contains invalid numeric entries (problem {problem} of the batch)"
        )
    if outcome == _Outcome.infeasible:
        try:
            host.solve(array[problem], sense)
        except ValueError as error:
            raise ValueError(f"{error} (problem {problem} of the batch)") from None
    result = _kind_of(cost)(col_of_row)
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
    matrix, shift = as_floats(cost, 2, MATRIX)
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
    sense = sense_of(maximize, sign_marginalized)
    flip = 1.0 if sense == _Sense.minimize else -1.0
    u, v = flip * np.asarray(duals.row_dual), flip * np.asarray(duals.col_dual)
    stored = sense_of_moved(sense, shift)

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
    objective = moved_sum(matched, stored, shift)
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
    matrix, shift = as_floats(cost, 2, MATRIX)
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
    sense = sense_of(maximize, sign_marginalized)
    flip = 1.0 if sense == _Sense.minimize else -1.0
    u, v = flip * np.asarray(assignment.row_dual), flip * np.asarray(assignment.col_dual)
    stored = sense_of_moved(sense, shift)
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
    matrix, shift = as_floats(cost, 2, MATRIX)
    if shift:
        raise ValueError(
            "the matrix holds integers beyond 2**53, which float64 cannot hold one by one: scale "
            "them down, or pass floats"
        )
    return matrix


def _solve(
    cost: npt.ArrayLike,
    sense: _core.Sense,
    *,
    certificate: bool = True,
    warm_start: Assignment | None = None,
    num_threads: int | None = None,
    backend: Backend = "auto",
) -> Answer:
    there = runs_on_device(cost, backend)
    start = None
    if warm_start is not None:
        duals = warm_start.row_dual, warm_start.col_dual
        start = Start(*(duals if there else map(cuda.on_host, duals)))
    solver = device.solve if there else host.solve
    return solver(
        cost if there else cuda.on_host(cost),
        sense,
        certificate=certificate,
        start=start,
        num_threads=num_threads,
    )


def _as_int8(flags: Any) -> Any:
    return flags.to(sys.modules["torch"].int8) if is_tensor(flags) else flags.astype(np.int8)


def _kind_of(cost: object) -> Any:
    """The function that makes a result array or tensor of the kind of `cost`, on its device."""
    if cuda.is_on_device(cost):
        import torch

        tensor, back = cuda.as_tensor(cost)
        return lambda result: back(torch.as_tensor(result, device=tensor.device))
    if not is_tensor(cost):
        return lambda array: array
    import torch

    return torch.from_numpy
