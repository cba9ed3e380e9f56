"""Answers: what a solver hands back, and the same in terms of the matrix that was given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from bmatch.arrays import Array, arange, as_int8, copied, full
from bmatch.assignment.costs import Costs
from bmatch.assignment.partial import partial_pairs

if TYPE_CHECKING:
    from bmatch._core import Solution, SparseSolution


@dataclass(frozen=True, eq=False)
class Assignment:
    """An optimal assignment of an ``[n, m]`` matrix and the proof that it is one.

    Arrays are NumPy arrays, or tensors on the device of the matrix if that was a tensor.

    Attributes
    ----------
    row_ind, col_ind : int64 [min(n, m)]
        Matched pairs, rows ascending: what `scipy.optimize.linear_sum_assignment` returns. Fewer,
        [k], where `cost_limit` or `partial` left some out.
    col_of_row : int64 [n]
        Column of each row, -1 for a row that is left unmatched.
    row_dual, col_dual : float64 [n], [m]
        An optimal solution of the dual, in the units of the matrix. When minimising,
        ``row_dual[i] + col_dual[j] <= cost[i, j]`` for all pairs, with equality on matched
        ones; when maximising, ``>=``; and where ``|cost|`` is maximised, ``>= |cost[i, j]|``.
        To a rounding, and infinite where float64 holds no such number. Under a `cost_limit`, row
        and column duals are also at most half of it (at least, when maximising), with equality on
        those that stay unmatched. Where `partial`, each of the three blocks of rows and columns in
        which all matchings of as many pairs lie has duals of its own, which say nothing about
        pairs of two blocks; the user guide says how they are found.
    objective : float
        Sum of the matched entries (of their magnitudes where those are maximised); infinite where
        float64 holds no such number.
    gap : float
        No assignment is better than this one by more than `gap`, in exact numbers: 0, or a few
        roundings. Under a `cost_limit`, half of it counts for each unmatched row and column.
    sign : int8 [min(n, m)] or None
        Sign of each matched entry, where magnitudes were matched; +1 for a zero.
    cost_limit : float or None
        The limit that was given, if any.
    partial : bool
        Whether there was no complete matching, and this is one of as many pairs as possible.
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
    cost_limit: float | None = None
    partial: bool = False


class Answer(NamedTuple):
    """What every way to solve hands back: arrays, or tensors where the matrix lies.

    It speaks of `Costs.oriented`, whose rows are its short side, and of minimised stored entries.

    Attributes
    ----------
    col_of_row : int64 [rows]
        -1 for a row that stays out.
    row_dual, col_dual : float64 [rows], [cols]
        None, or empty, if no certificate was asked for. Under a limit, row duals are at most that,
        column duals at most 0.
    objective, gap : float
    stats : mapping
    row_ind : int64 [rows] or None
        0, 1, ... where that was made while a device worked.
    """

    col_of_row: Any
    row_dual: Any
    col_dual: Any
    objective: float
    gap: float
    stats: Mapping[str, float]
    row_ind: Any = None

    @classmethod
    def of(cls, solved: Solution | SparseSolution) -> Answer:
        """What a solver on the host found."""
        return cls(
            solved.col_of_row,
            solved.row_dual,
            solved.col_dual,
            solved.objective,
            solved.gap,
            solved.stats,
        )

    def to(self, device: Any) -> Answer:
        """An answer found on the host as tensors on a device."""
        import torch

        def moved(array: Any) -> torch.Tensor:
            return torch.as_tensor(array, device=device)

        return self._replace(
            col_of_row=moved(self.col_of_row),
            row_dual=moved(self.row_dual),
            col_dual=moved(self.col_dual),
        )


def pairs_of(costs: Costs, answer: Answer) -> tuple[Any, Any, Any]:
    """The pairs of an answer in terms of the matrix: row_ind, col_ind, col_of_row.

    The last two may be one.
    """
    col_of_row = answer.col_of_row
    if costs.is_partial:
        return partial_pairs(costs, col_of_row)
    if not costs.transposed:  # every row has a column
        row_ind = answer.row_ind
        if row_ind is None:
            row_ind = arange(len(col_of_row), like=col_of_row)
        return row_ind, col_of_row, col_of_row
    row_of_col = col_of_row
    col_ind = row_of_col.argsort()
    row_ind = row_of_col[col_ind]
    n, m = costs.shape
    if n == m:
        return row_ind, col_ind, col_ind
    col_of_row = full(n, -1, like=row_of_col)
    col_of_row[row_ind] = col_ind
    return row_ind, col_ind, col_of_row


def assignment_of(costs: Costs, answer: Answer) -> Assignment:
    """The whole answer in terms of the matrix: its orientation, units, kind and device."""
    row_ind, col_ind, col_of_row = pairs_of(costs, answer)
    u, v = answer.row_dual, answer.col_dual
    if costs.limit is not None:  # half of it on either side
        u, v = u - costs.limit / 2, v + costs.limit / 2
    row_dual, col_dual = (v, u) if costs.transposed else (u, v)
    objective = answer.objective
    if costs.shift:  # the duals of the side that is matched whole bear it
        objective = costs.total(costs.minimised(costs.matrix[row_ind, col_ind]))
        n, m = costs.shape
        if n <= m:
            row_dual = row_dual + costs.minimised_shift
        else:
            col_dual = col_dual + costs.minimised_shift
    sign = None
    if costs.matches_magnitudes:
        sign = costs.to_kind(1 - 2 * as_int8(costs.negative(row_ind, col_ind)))
    return Assignment(
        row_ind=costs.to_kind(row_ind),
        col_ind=costs.to_kind(col_ind),
        col_of_row=costs.to_kind(copied(col_of_row) if col_of_row is col_ind else col_of_row),
        row_dual=costs.to_kind(costs.given(row_dual)),
        col_dual=costs.to_kind(costs.given(col_dual)),
        objective=costs.given(objective),
        gap=answer.gap,
        sign=sign,
        stats=answer.stats,
        cost_limit=None if costs.limit is None else costs.given(costs.limit),
        partial=costs.limit is None and len(row_ind) < min(costs.shape),
    )


def start_prices(start: Assignment, costs: Costs) -> Any:
    """Prices of the solver's columns, where a search starts: duals of a similar problem.

    float64 [cols], an array or a tensor where `start` holds one.

    Raises
    ------
    TypeError
        If `start` is no answer.
    ValueError
        If it is the answer for a matrix of another shape.
    """
    if not isinstance(start, Assignment):
        raise TypeError(
            f"warm_start must be an Assignment, as bmatch.solve returns it, got {start!r:.60}"
        )
    shape = len(start.row_dual), len(start.col_dual)
    if shape != costs.shape:
        raise ValueError(
            f"warm_start is the answer for a matrix of shape {shape}, expected {costs.shape}"
        )
    return costs.flip * (start.row_dual if costs.transposed else start.col_dual)
