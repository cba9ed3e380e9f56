"""Sparse cost matrices: recognised by what they hold, and solved in memory that goes by entries.

SciPy is not imported: whatever has ``indptr, indices, data, shape`` or ``row, col, data, shape``
will do, or a sparse tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bmatch import _core
from bmatch.arrays import as_array, is_tensor, kind_of
from bmatch.assignment.answer import Answer
from bmatch.assignment.costs import Costs, too_few

if TYPE_CHECKING:
    from bmatch._core import SparseSolution

_Sense = _core.Sense

_COMPRESSED = "indptr", "indices", "data", "shape"
_COORDINATES = "row", "col", "data", "shape"
_MOST_LINES = 2**31


class SparseCosts(NamedTuple):
    """A sparse matrix, checked, and what `bmatch.assignment.answer` asks of a matrix.

    Attributes
    ----------
    shape : (n, m)
    sense : Sense
    transposed : bool
        Whether the solver's rows are the columns of the matrix.
    start : int64 [n + 1] or [m + 1], or None
        Where the entries of each row, or column, begin; None if `major` is given.
    major : int32 or int64 [entries], or None
        The row of each entry.
    minor : int32 or int64 [entries]
        The other index of each entry: its column, but its row if `by_columns`.
    data : float32 or float64 [entries]
    by_columns : bool
        Whether `start` is of columns.
    to_kind : function
        Makes results things of the kind that was given.
    below_zero : bool [rows of the solver], or None
        Whether a row's matched entry is below zero, once magnitudes have been matched.
    shift : int
        What was subtracted from every entry: nothing.
    forbids : bool
        Whether entries that are not finite are no pairs.
    limit, partial
        As those of `Costs`.
    """

    shape: tuple[int, int]
    sense: _core.Sense
    transposed: bool
    start: npt.NDArray[np.int64] | None
    major: npt.NDArray[Any] | None
    minor: npt.NDArray[Any]
    data: npt.NDArray[Any]
    by_columns: bool
    to_kind: Callable[[Any], Any]
    below_zero: npt.NDArray[np.bool_] | None = None
    shift: int = 0
    forbids: bool = False
    limit: Any = None
    partial: bool = False

    @classmethod
    def of(cls, cost: Any, sense: _core.Sense, forbids: bool = False) -> SparseCosts:
        """A matrix for which `is_sparse` holds.

        Raises
        ------
        ValueError
            If indices point outside, sizes do not fit one another, or integers are too large for
            float64.
        TypeError
            If the entries are not numbers that float64 can hold.
        """
        to_kind = kind_of(cost, False)
        if is_tensor(cost):
            parts, by_columns = _tensor_parts(cost)
        else:
            known = _has(cost, _COMPRESSED) or _has(cost, _COORDINATES)
            if not known or getattr(cost, "format", "") == "bsr":
                cost = cost.tocsr()
            by_columns = getattr(cost, "format", "") == "csc"
            names = _COMPRESSED if _has(cost, _COMPRESSED) else _COORDINATES
            parts = {name: getattr(cost, name) for name in names}
        shape = tuple(int(size) for size in parts["shape"])
        if len(shape) != 2:
            raise ValueError(f"expected a matrix (2-D array), got a {len(shape)} array")
        n, m = shape
        if max(n, m) >= _MOST_LINES:
            raise ValueError(
                f"sparse cost matrix has shape {shape}, and the solver takes up to 2**31 - 1 rows "
                "and columns"
            )
        data = _floats(as_array(parts["data"]))
        start = major = None
        if "indptr" in parts:
            start = _starts(parts["indptr"], m if by_columns else n, len(data))
            data = data[: start[-1]]
            parts["indices"] = parts["indices"][: start[-1]]
            minor = _indices(parts["indices"], "indices", m if not by_columns else n, len(data))
        else:
            major = _indices(parts["row"], "row", n, len(data))
            minor = _indices(parts["col"], "col", m, len(data))
            if major.dtype != minor.dtype:
                major, minor = major.astype(np.int64), minor.astype(np.int64)
        transposed = n > m or (n == m and by_columns)
        return cls(
            (n, m), sense, transposed, start, major, minor, data, by_columns, to_kind,
            forbids=forbids,
        )  # fmt: skip

    @property
    def matches_magnitudes(self) -> bool:
        """Whether the sum of ``|cost|`` is maximised."""
        return self.sense == _Sense.maximize_magnitude

    @property
    def is_partial(self) -> bool:
        """Whether rows of the solver may stay out."""
        return self.partial or self.limit is not None

    @property
    def flip(self) -> float:
        """1 or -1: what turns minimised costs, and their duals, into the units that were given."""
        return 1.0 if self.sense == _Sense.minimize else -1.0

    def given(self, values: Any) -> Any:
        """Objectives and duals of minimised costs in the units that were given; new, without -0."""
        return (values if self.sense == _Sense.minimize else -values) + 0.0

    def total(self, minimised: npt.NDArray[np.float64]) -> float:
        """The sum of minimised costs, to one rounding."""
        return math.fsum(minimised)

    def block(self, rows: npt.NDArray[Any], cols: npt.NDArray[Any]) -> SparseCosts:
        """These rows and columns alone."""
        at_row, at_col, minimised = entries_of(self)
        places = []
        for size, some in zip(self.shape, (rows, cols), strict=True):
            place = np.full(size, -1)
            place[some] = np.arange(len(some))
            places.append(place)
        row, col = places[0][at_row], places[1][at_col]
        inside = (row >= 0) & (col >= 0)
        return self._replace(
            shape=(len(rows), len(cols)), start=None, major=row[inside], minor=col[inside],
            data=self.flip * minimised[inside], by_columns=False,
        )  # fmt: skip

    def negative(self, row_ind: Any, col_ind: Any) -> Any:
        """Which of these matched entries are below zero, as they were given."""
        assert self.below_zero is not None
        return self.below_zero[col_ind if self.transposed else row_ind]

    def dense(self) -> Costs | None:
        """The same as an array, if that takes no more than what is held per entry; or None.

        Magnitudes have no value for what is absent, and what is not finite is judged by entries.
        """
        n, m = self.shape
        if 2 * len(self.data) < n * m or self.matches_magnitudes or not len(self.data):
            return None
        if not np.isfinite(self.data).all():
            return None
        major, minor = self.indices()
        lines = (m, n) if self.by_columns else (n, m)
        place = major.astype(np.int64) * lines[1] + minor
        matrix: Any = np.bincount(place, self.data, n * m)
        absent = np.ones(n * m, bool)
        absent[place] = False
        matrix[absent] = self.flip * np.inf
        matrix = matrix.reshape(lines)
        matrix = matrix.T if self.by_columns else matrix
        costs = Costs.of(matrix, self.sense, to_kind=self.to_kind)
        return costs._replace(limit=self.limit, partial=self.partial)

    def indices(self) -> tuple[Any, npt.NDArray[Any]]:
        """Major and minor index of each entry."""
        if self.start is None:
            return self.major, self.minor
        return np.repeat(np.arange(len(self.start) - 1), np.diff(self.start)), self.minor

    def solved(self) -> SparseSolution:
        """What the solver finds."""
        rows, cols = self.shape[::-1] if self.transposed else self.shape
        if self.limit is not None and rows + cols >= _MOST_LINES:
            raise ValueError(
                f"sparse cost matrix has shape {self.shape}, and under a cost_limit the solver "
                "takes up to 2**31 - 1 rows and columns together"
            )
        limit = math.inf if self.limit is None else self.limit
        most = self.partial and self.limit is None
        if self.major is not None:
            row, col = (self.minor, self.major) if self.transposed else (self.major, self.minor)
            return _core.solve_coordinates(
                rows, cols, row, col, self.data, self.sense, self.transposed, self.forbids,
                limit, most,
            )  # fmt: skip
        assert self.start is not None
        by_columns = self.by_columns != self.transposed
        return _core.solve_compressed(
            rows, cols, self.start, self.minor, self.data, self.sense, by_columns,
            self.transposed, self.forbids, limit, most,
        )  # fmt: skip


def is_sparse(cost: Any) -> bool:
    """Whether `cost` is a sparse matrix or a sparse tensor."""
    if isinstance(cost, (np.ndarray, list, tuple)):
        return False
    if is_tensor(cost):
        return bool(cost.layout != _torch().strided)
    return _has(cost, _COMPRESSED) or _has(cost, _COORDINATES) or hasattr(cost, "tocsr")


def solve_sparse(costs: SparseCosts) -> tuple[Any, Answer]:
    """Solve a sparse matrix: what `pairs_of` and `assignment_of` take.

    Raises
    ------
    ValueError
        If an entry is NaN or forbids nothing though it is infinite, or there is no assignment.
    """
    solved = costs.solved()
    if solved.outcome == _core.Outcome.invalid:
        raise _invalid(costs, solved.first_invalid, solved.invalid)
    if solved.outcome == _core.Outcome.infeasible:
        raise ValueError(too_few(solved.trapped, costs.transposed))
    answer = Answer.of(solved)
    return costs._replace(below_zero=solved.negative), answer


def entries_of(
    costs: SparseCosts,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Rows, columns and minimised costs of the allowed pairs, duplicates added up; rows ascend.

    Raises
    ------
    ValueError
        If an entry is NaN or forbids nothing though it is infinite.
    """
    major, minor = costs.indices()
    rows, cols = (minor, major) if costs.by_columns else (major, minor)
    key = rows.astype(np.int64) * costs.shape[1] + cols
    places, at = np.unique(key, return_inverse=True)
    values: Any = np.bincount(at, costs.data, len(places))
    if costs.matches_magnitudes:
        values = -np.abs(values)
    elif costs.sense == _Sense.maximize:
        values = -values
    allowed = np.isfinite(values) if costs.forbids else values != math.inf
    places, values = places[allowed], values[allowed]
    wrong = ~(values > -math.inf)
    if wrong.any():
        raise _invalid(costs, int(places[wrong.argmax()]), int(wrong.sum()))
    return places // costs.shape[1], places % costs.shape[1], values


def _invalid(costs: SparseCosts, place: int, count: int) -> ValueError:
    row, col = divmod(place, costs.shape[1])
    more = "" if count == 1 else f", the first of {count}"
    return ValueError(
        f"matrix contains invalid numeric entries: row {row}, column {col}{more}; "
        "nonfinite='forbid' takes such entries for forbidden pairs"
    )


def _has(cost: Any, names: tuple[str, ...]) -> bool:
    return all(hasattr(cost, name) for name in names)


def _torch() -> Any:
    import torch

    return torch


def _tensor_parts(tensor: Any) -> tuple[dict[str, Any], bool]:
    """The parts of a sparse tensor on the host, and whether its columns are compressed."""
    torch = _torch()
    if tensor.device.type != "cpu":
        raise ValueError(
            f"the sparse cost matrix is on {tensor.device}, and sparse matrices are solved on the "
            "host: pass cost.cpu()"
        )
    tensor = tensor.detach()
    if tensor.layout == torch.sparse_coo and tensor.dense_dim() == 0 and tensor.ndim == 2:
        row, col = tensor._indices()
        return {"row": row, "col": col, "data": tensor._values(), "shape": tensor.shape}, False
    if tensor.layout in (torch.sparse_csr, torch.sparse_csc) and tensor.ndim == 2:
        by_columns = tensor.layout == torch.sparse_csc
        starts = tensor.ccol_indices() if by_columns else tensor.crow_indices()
        indices = tensor.row_indices() if by_columns else tensor.col_indices()
        parts = {"indptr": starts, "indices": indices, "data": tensor.values()}
        return {**parts, "shape": tensor.shape}, by_columns
    raise ValueError(
        f"the sparse cost matrix has layout {tensor.layout} and {tensor.ndim} dimensions, expected "
        "a matrix as torch.sparse_csr, sparse_csc or sparse_coo: pass cost.to_sparse_csr()"
    )


def _floats(data: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Entries as float32 or float64."""
    if data.ndim != 1:
        raise ValueError(f"data of the sparse cost matrix has {data.ndim} dimensions, expected 1")
    if data.dtype in (np.float32, np.float64) and data.dtype.isnative:
        return np.ascontiguousarray(data)
    if not np.can_cast(data.dtype, np.float64, "safe"):
        raise TypeError(
            f"Cannot cast array data from {data.dtype!r} to dtype('float64') according to the "
            "rule 'safe'"
        )
    if data.dtype.kind in "iu" and data.dtype.itemsize == 8 and data.size:
        low, high = int(data.min()), int(data.max())
        if low < -(2**53) or high > 2**53:
            raise ValueError(
                f"sparse cost matrix holds integers from {low} to {high}, and float64 does not "
                "hold them one by one: scale them down, or pass floats"
            )
    return data.astype(np.float64)


def _indices(values: Any, name: str, size: int, count: int) -> npt.NDArray[Any]:
    """Indices below `size`, one an entry, as int32 or int64."""
    indices = as_array(values)
    if indices.dtype.kind not in "iu" and indices.size:
        raise TypeError(
            f"{name} of the sparse cost matrix has dtype {indices.dtype}, expected integers"
        )
    if indices.shape != (count,):
        raise ValueError(
            f"{name} of the sparse cost matrix has shape {indices.shape}, expected {(count,)}, one "
            "for each entry of data"
        )
    if count and (indices.min() < 0 or indices.max() >= size):
        raise ValueError(
            f"{name} of the sparse cost matrix runs from {indices.min()} to {indices.max()}, "
            f"expected 0 to {size - 1}"
        )
    if indices.dtype != np.int32 or not indices.dtype.isnative:
        indices = indices.astype(np.int64, copy=False)
    return np.ascontiguousarray(indices)


def _starts(values: Any, size: int, count: int) -> npt.NDArray[np.int64]:
    """Where rows, or columns, begin: ascending from 0 to the number of entries."""
    starts = as_array(values)
    if starts.dtype.kind not in "iu" or starts.shape != (size + 1,):
        raise ValueError(
            f"indptr of the sparse cost matrix has dtype {starts.dtype} and shape {starts.shape}, "
            f"expected {size + 1} integers"
        )
    starts = starts.astype(np.int64)
    if starts[0] != 0 or starts[-1] > count or (np.diff(starts) < 0).any():
        raise ValueError(
            f"indptr of the sparse cost matrix must ascend from 0 to at most the {count} entries "
            f"of data, got {starts[0]} to {starts[-1]}"
        )
    return starts
