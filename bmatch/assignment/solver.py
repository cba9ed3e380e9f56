"""The linear assignment problem: exact, with duals that prove it.

`linear_sum_assignment` is SciPy's function by name, signature and behaviour; `solve` is the
same solver with its whole answer: duals, objective, gap, and matching by magnitude.
"""

from __future__ import annotations

import math
from typing import Any

import numpy.typing as npt

from bmatch import _core
from bmatch.arrays import Array
from bmatch.assignment import host
from bmatch.assignment.answer import Answer, Assignment, assignment_of, pairs_of, start_prices
from bmatch.assignment.costs import Costs, sense_of
from bmatch.assignment.cuda import solve_batch_by_kernels, solve_ragged_by_kernels
from bmatch.assignment.device import (
    Backend,
    Nonfinite,
    costs_for,
    forbids_nonfinite,
    solve_on_device,
)
from bmatch.assignment.factors import Factors
from bmatch.assignment.partial import allowing
from bmatch.assignment.sparse import SparseCosts, is_sparse, solve_sparse

_NO_LIMIT = math.inf


def linear_sum_assignment(
    cost_matrix: npt.ArrayLike | Factors, maximize: bool = False
) -> tuple[Array, Array]:
    """Solve the linear sum assignment problem; a drop-in for SciPy's function of this name.

    Parameters
    ----------
    cost_matrix : array_like, torch.Tensor or Factors [n, m]
        Any boolean, integer or floating type that casts safely to float64; objects such as
        Decimal, Fraction and large Python integers, lists of numeric strings and data frames are
        rounded to float64. So are 64-bit integers further apart than 2**53, as where the type's
        greatest stands for "never"; others are exact. ``+inf`` forbids a pair (``-inf`` when
        maximising). Never written to, and read as it is stored, without a copy, if it consists of
        floats, booleans, integers of up to 32 bits or bfloat16 (a tensor's, or ml_dtypes'). Or a
        sparse matrix, whose explicit entries, zeros among them, are the allowed pairs: anything
        with ``indptr, indices, data, shape`` (CSR; CSC if its ``format`` says so) or ``row, col,
        data, shape`` (COO), or with ``tocsr``, or a sparse tensor on the host; entries of one
        place are added up.
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
        If the matrix is not 2-D, contains NaN or ``-inf`` (the message says where), or has no
        complete matching.
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
    pairs = _core.pairs(cost_matrix, maximize, host.DEFAULT_THREADS, _NO_LIMIT)
    if pairs is not None:
        return pairs
    costs: Any
    if is_sparse(cost_matrix):
        sparse = SparseCosts.of(cost_matrix, sense_of(maximize, False))
        costs = sparse.dense() or sparse
    else:
        costs = costs_for(cost_matrix, maximize)
    if isinstance(costs, SparseCosts):
        costs, answer = solve_sparse(costs)
    else:
        answer = _solve(costs, certificate=False)
    row_ind, col_ind, _ = pairs_of(costs, answer)
    return costs.to_kind(row_ind), costs.to_kind(col_ind)


def limited_pairs(cost: npt.ArrayLike, cost_limit: float) -> tuple[Array, Array]:
    """``row_ind, col_ind`` of `solve` under a finite limit, without the proof.

    Parameters
    ----------
    cost : array_like or torch.Tensor [n, m]
    cost_limit : float

    Raises
    ------
    ValueError, TypeError
        As `solve`.
    """
    if isinstance(cost_limit, float) and math.isfinite(cost_limit):
        pairs = _core.pairs(cost, False, host.DEFAULT_THREADS, cost_limit)
        if pairs is not None:
            return pairs
    answer = solve(cost, cost_limit=cost_limit)
    return answer.row_ind, answer.col_ind


def solve(
    cost: npt.ArrayLike | Factors,
    maximize: bool = False,
    *,
    sign_marginalized: bool = False,
    warm_start: Assignment | None = None,
    num_threads: int | None = None,
    backend: Backend = "auto",
    cost_limit: float | None = None,
    partial: bool = False,
    nonfinite: Nonfinite = "raise",
) -> Assignment:
    """Solve the linear sum assignment problem and return the whole answer.

    Parameters
    ----------
    cost : array_like, torch.Tensor or Factors [n, m]
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
        Rectangular and sparse matrices are solved from the beginning.
    num_threads : int, optional
        Threads for the passes over the matrix; by default all physical cores (or as many as the
        environment variable ``BMATCH_NUM_THREADS`` says when bmatch is imported) for matrices of
        16 million entries or more, one for smaller ones and for sparse ones. The answer does not
        depend on it.
    backend : {"auto", "cpu", "cuda"}
        Where a matrix on a CUDA device is solved: there, or on the host, to which it is copied
        and from which the answer comes back. ``"auto"``: there from 1,024 rows on, and while
        a CUDA graph is captured. What lies on the host is solved on the host. So is what may leave
        rows unmatched, by scans of the device and rows that are fetched, and a matrix on which the
        device finds no answer in about the time that the host takes.
    cost_limit : float, optional
        No pair costs more (less, when maximising; no ``|cost|`` is less, where those are
        maximised), and rows and columns may stay unmatched: each that does counts half of the
        limit in the sum that is made least. That is the optimum of lap's extended matrix, which
        is not made; a pair of exactly the limit is as good as none. ``inf`` (``-inf``) is no limit.
    partial : bool
        Where there is no complete matching, return one of as many pairs as possible, and of those
        the cheapest, in place of an error. Under a `cost_limit`, there is always an answer.
    nonfinite : {"raise", "forbid"}
        What is done with NaN, and with the infinity that forbids nothing: an error that says where
        the first one is, or all of them, NaN and both infinities, forbid a pair. Where there are
        any, they are replaced in a copy of the matrix.

    Returns
    -------
    Assignment

    Raises
    ------
    ValueError
        If the matrix is not 2-D, contains NaN or ``-inf`` (``+inf`` when maximising), or has no
        complete matching; the message then names rows that compete for too few columns. If
        `cost_limit` is NaN or forbids every pair.
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
    if is_sparse(cost):
        if backend not in ("auto", "cpu"):
            raise ValueError(
                f"backend must be 'auto' or 'cpu' for a sparse matrix, got {backend!r}: sparse "
                "matrices are solved on the host"
            )
        sense, forbids = sense_of(maximize, sign_marginalized), forbids_nonfinite(nonfinite)
        costs: Any = SparseCosts.of(cost, sense, forbids)
    else:
        costs = costs_for(cost, maximize, sign_marginalized, backend=backend, nonfinite=nonfinite)
    if partial is not False or cost_limit is not None:
        costs = allowing(costs, cost_limit, partial)
    return solved(costs, warm_start, num_threads)


def solved(
    costs: Costs | SparseCosts,
    warm_start: Assignment | None = None,
    num_threads: int | None = None,
) -> Assignment:
    """What `solve` returns, for a matrix that has been read."""
    if isinstance(costs, SparseCosts):
        dense = costs.dense()
        if dense is None:
            return assignment_of(*solve_sparse(costs))
        return assignment_of(dense, _solve(dense))
    prices = None if warm_start is None else start_prices(warm_start, costs)
    return assignment_of(costs, _solve(costs, prices=prices, num_threads=num_threads))


def batch_linear_sum_assignment(
    cost: npt.ArrayLike,
    maximize: bool = False,
    *,
    sizes: npt.ArrayLike | None = None,
    num_threads: int | None = None,
    backend: Backend = "auto",
    cost_limit: float | npt.ArrayLike | None = None,
    partial: bool = False,
    nonfinite: Nonfinite = "raise",
) -> Array:
    """Solve many linear sum assignment problems, each in one thread.

    They have one shape, or are padded to one and `sizes` says how large each is.

    On a CUDA device each is solved by one warp, or by one block if it has more than 64 rows.

    Parameters
    ----------
    cost : array_like or torch.Tensor [B, n, m]
        Entries as for `linear_sum_assignment`.
    maximize : bool
        Whether the sums are maximised instead.
    sizes : array_like or torch.Tensor, int [B, 2], optional
        Rows and columns of each problem, which stands in the first rows and columns of its
        ``[n, m]``. The rest is padding, of any values: it is never read. Sizes are needed on the
        host, so a CUDA graph cannot capture a ragged batch.
    num_threads : int, optional
        Problems solved at once; by default all physical cores.
    backend : {"auto", "cpu", "cuda"}
        As for `solve`; ``"auto"`` solves a batch where it lies.
    cost_limit : float or array_like [B], optional
        As for `solve`; one for all problems, or one for each.
    partial : bool
        As for `solve`, problem by problem.
    nonfinite : {"raise", "forbid"}
        As for `solve`.

    Returns
    -------
    col_of_row : int64 [B, n]
        Column of each row; -1 for a row that is left unmatched (``n > m``, `cost_limit`,
        `partial`) and for a row of padding. A tensor, if a tensor was given.

    Raises
    ------
    ValueError
        If the array is not 3-D, or one of the problems contains NaN or ``-inf`` or has no complete
        matching; the message then names the first of them. If `sizes` has another shape, or
        names a problem larger than ``[n, m]``.
    TypeError
        If the entries are not numbers that float64 can hold, or `sizes` are no integers.

    Examples
    --------
    >>> import bmatch, numpy as np
    >>> cost = np.full((2, 3, 3), np.nan)
    >>> cost[0, :2, :3] = [[4, 1, 6], [2, 0, 5]]
    >>> cost[1, :3, :1] = [[3], [1], [2]]
    >>> bmatch.batch_linear_sum_assignment(cost, sizes=[(2, 3), (3, 1)])
    array([[ 1,  0, -1],
           [-1,  0, -1]])
    """
    costs = costs_for(cost, maximize, ndim=3, backend=backend, nonfinite=nonfinite, sizes=sizes)
    if partial is not False or cost_limit is not None:
        costs = allowing(costs, cost_limit, partial, cost)
    if costs.on_device and not costs.is_partial:
        solve = solve_batch_by_kernels if sizes is None else solve_ragged_by_kernels
        col_of_row: Array = solve(costs)
    else:
        col_of_row = host.solve_batch_on_host(costs.on_host(), num_threads=num_threads)
    result: Array = costs.to_kind(col_of_row)
    return result


def _solve(costs: Costs, **options: Any) -> Answer:
    return (solve_on_device if costs.on_device else host.solve_on_host)(costs, **options)
