"""Cost matrices that never exist: their rows are computed from factors whenever they are read."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from bmatch import _core
from bmatch.arrays import NOT_MOVED, as_array, as_floats, is_on_device, is_tensor, kind_of

if TYPE_CHECKING:
    from bmatch._core import Solution

FactorCost: TypeAlias = Literal[
    "dot", "abs_dot", "cosine", "abs_cosine", "sqeuclidean", "euclidean"
]
"""What a row of `x` and a row of `y` cost together."""

CACHE_BYTES = 2**28
"""Of rows that are kept, by default."""

_Margins: TypeAlias = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]

_ENTRIES_A_BLOCK = 2**20
_DENSE = "Factors.dense() makes the whole matrix in memory, if that is wanted"


class Factors:
    """A cost matrix given by factors: entry ``[i, j]`` is computed from ``x[i]`` and ``y[j]``.

    `bmatch.solve`, `bmatch.linear_sum_assignment` and `bmatch.certify` take it wherever they take a
    matrix, and need memory for the factors, the lists of the solver (about 450 bytes a row) and a
    budget of rows, instead of for ``n * m`` entries.

    Parameters
    ----------
    x : array_like or torch.Tensor [n, k]
        Floats or integers on the host; float16, bfloat16 and integers of up to 16 bits are widened
        to float32 once, other integers to float64.
    y : array_like or torch.Tensor [m, k]
        If one side is float64, so is the other.
    cost : {"dot", "abs_dot", "cosine", "abs_cosine", "sqeuclidean", "euclidean"}
        ``x[i] @ y[j]``, its magnitude, the cosine of the angle (0 where one is zero), its
        magnitude, or a distance, squared or not.
    cache_bytes : int
        Most memory for rows that are read again and kept.

    Raises
    ------
    ValueError
        If the sides are no matrices of as many columns, hold NaN or infinities (the message says
        where), or lie on a device; or for a `cost` that there is not.
    TypeError
        If the factors are no real numbers.

    Notes
    -----
    Entries are float64: sums over the terms, from the first to the last, of products or squared
    differences that are rounded to float64. They come out in the same bits whenever, wherever and
    by whatever instruction set they are computed, so that answers are exact for the matrix that
    `dense` makes. It can be read as that matrix could be, by rows (``factors[3:5]``) and by pairs
    (``factors[row_ind, col_ind]``).

    Examples
    --------
    >>> import bmatch
    >>> points, others = [[0.0, 0.0], [3.0, 4.0]], [[3.0, 3.0], [0.0, 1.0]]
    >>> bmatch.solve(bmatch.Factors(points, others, "euclidean")).objective
    2.0
    """

    def __init__(
        self,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        cost: FactorCost = "dot",
        *,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if cost not in get_args(FactorCost):
            named = ", ".join(map(repr, get_args(FactorCost)))
            raise ValueError(f"cost must be one of {named}, got {cost!r:.60}")
        sides = [_side(side, name) for side, name in ((x, "x"), (y, "y"))]
        if sides[0].shape[1] != sides[1].shape[1]:
            raise ValueError(
                "x and y must have as many columns, the terms of a cost, got shapes "
                f"{sides[0].shape} and {sides[1].shape}"
            )
        if sides[0].dtype != sides[1].dtype:
            sides = [side.astype(np.float64) for side in sides]
        if cost.endswith("cosine") and sides[0].dtype == np.float64:
            sides = [_of_middling_size(side) for side in sides]
        self._source: _Factored | _Called = _Factored(
            sides[0], sides[1], _core.FactorCost[cost], _bytes(cache_bytes)
        )
        self._to_kind = kind_of(x if is_tensor(x) else y, False)

    @classmethod
    def from_blocks(
        cls,
        function: Callable[[int, int], npt.ArrayLike],
        shape: tuple[int, int],
        *,
        cache_bytes: int = CACHE_BYTES,
    ) -> Factors:
        """A matrix of whose rows a function makes any block.

        Parameters
        ----------
        function : callable
            ``function(first, count)`` returns rows first, first + 1, ... as ``[count, m]``, an
            array or a tensor on the host; infinities forbid pairs as in a matrix. It is asked for
            the same blocks again and again, always whole, by one thread at a time, and must return
            the same numbers each time. Where forbidden pairs leave no complete matching, `partial`
            copies the blocks of the matrix that it solves.
        shape : (n, m)
            With ``n <= m``: only rows can be asked for.
        cache_bytes : int
            Most memory for blocks that are kept; two are kept at least.

        Raises
        ------
        ValueError, TypeError
            For what is no shape, and for more rows than columns. Whatever `function` raises ends
            the solve; so does a block of another shape, as a ValueError.
        """
        if not callable(function):
            raise TypeError(f"function must be callable, got {function!r:.60}")
        try:
            n, m = (operator.index(size) for size in shape)
        except (TypeError, ValueError):
            raise TypeError(f"shape must be two whole numbers, got {shape!r:.60}") from None
        if not 0 <= n <= m:
            raise ValueError(
                f"shape must be (n, m) with 0 <= n <= m, got {(n, m)}: rows are what is asked for, "
                "so make the columns of a tall matrix its rows"
            )
        made = cls.__new__(cls)
        made._source = _Called(function, (n, m), _bytes(cache_bytes))
        made._to_kind = kind_of(None, False)
        return made

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix."""
        return self._source.shape

    @property
    def ndim(self) -> int:
        """2."""
        return 2

    @property
    def T(self) -> Factors:
        """The transpose: the same entries, to the bit."""
        turned = Factors.__new__(Factors)
        turned._source = self._source.turned()
        turned._to_kind = self._to_kind
        return turned

    def dense(self) -> npt.NDArray[np.float64]:
        """The matrix itself, float64 [n, m], in the bits in which it is solved."""
        return self._source.rows(0, self.shape[0])

    def __getitem__(self, key: Any) -> npt.NDArray[np.float64]:
        """Rows of a slice, float64 [count, m], or the entries of pairs ``row_ind, col_ind``."""
        if isinstance(key, slice):
            first, stop, step = key.indices(self.shape[0])
            if step != 1:
                raise ValueError(f"rows of factors are read one after another, got {key}")
            return self._source.rows(first, max(stop - first, 0))
        if isinstance(key, tuple) and len(key) == 2:
            sides = [np.asarray(as_array(side)) for side in key]
            if all(side.dtype.kind in "iu" for side in sides):
                return self._pairs(*np.broadcast_arrays(*sides))
        raise TypeError(f"factors are read by [a:b] or [row_ind, col_ind]; {_DENSE}")

    def _pairs(self, rows: npt.NDArray[Any], cols: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        for side, size, name in ((rows, self.shape[0], "row"), (cols, self.shape[1], "column")):
            if side.size and not (side.min() >= 0 and side.max() < size):
                raise IndexError(
                    f"{name}s run from 0 to {size - 1}, got {side.min()} to {side.max()}"
                )
        entries = self._source.entries(rows.ravel(), cols.ravel())
        return entries.reshape(rows.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, *args: Any, **kwargs: Any) -> npt.NDArray[np.float64]:
        raise TypeError(f"factors stand for a matrix that is not made unasked: {_DENSE}")

    def __repr__(self) -> str:
        return f"Factors({self._source}, shape={self.shape})"

    @property
    def source(self) -> _Factored | _Called:
        """What makes the entries, with the solver's ways to read them."""
        return self._source

    @property
    def to_kind(self) -> Callable[[Any], Any]:
        """Makes results tensors, if a side is one."""
        return self._to_kind


class _Factored:
    """Entries from two sides, C-contiguous, float32 or float64."""

    def __init__(
        self, x: npt.NDArray[Any], y: npt.NDArray[Any], cost: _core.FactorCost, cache_bytes: int
    ) -> None:
        self.x, self.y, self.cost, self.cache_bytes = x, y, cost, cache_bytes
        self._reader: _core.FactorRows | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.x), len(self.y)

    def __str__(self) -> str:
        return f"{self.cost.name!r}, terms={self.x.shape[1]}, dtype={self.x.dtype}"

    def turned(self) -> _Factored:
        return _Factored(self.y, self.x, self.cost, self.cache_bytes)

    @property
    def reader(self) -> _core.FactorRows:
        if self._reader is None:
            self._reader = _core.FactorRows(self.x, self.y, self.cost)
        return self._reader

    def rows(self, first: int, count: int) -> npt.NDArray[np.float64]:
        return self.reader.rows(first, count)

    def entries(self, rows: npt.NDArray[Any], cols: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return self.reader.entries(rows.astype(np.int64), cols.astype(np.int64))

    def solve(  # as _core.solve of an array
        self,
        sense: _core.Sense,
        threads: int,
        certificate: bool,
        prices: Any,
        transposed: bool,
        limit: float,
        most: bool,
    ) -> Solution:
        return _core.solve_factors(
            self.x, self.y, self.cost, sense, threads, certificate, prices, transposed, limit,
            most, self.cache_bytes,
        )  # fmt: skip

    def margins(
        self, sense: _core.Sense, col_of_row: Any, row_dual: Any, col_dual: Any, search_limit: int
    ) -> _Margins:
        return _core.factor_margins(
            self.x, self.y, self.cost, sense, col_of_row, row_dual, col_dual, search_limit,
            self.cache_bytes,
        )  # fmt: skip


class _Called:
    """Entries from a function, block by block."""

    def __init__(
        self, function: Callable[[int, int], Any], shape: tuple[int, int], cache_bytes: int
    ) -> None:
        self.function, self.shape, self.cache_bytes = function, shape, cache_bytes
        self.block = max(1, min(64, _ENTRIES_A_BLOCK // max(shape[1], 1)))

    def __str__(self) -> str:
        return f"blocks of {self.block} rows"

    def turned(self) -> _Called:
        raise ValueError(
            "factors from blocks have rows alone: for the transpose, pass a function that makes "
            "its rows"
        )

    def made(self, first: int, count: int) -> npt.NDArray[np.float64]:
        """A block as it is asked for, checked: float64 [count, m]."""
        rows = self.function(first, count)
        if is_on_device(rows):
            raise ValueError(
                f"the function of Factors.from_blocks returned rows on a device: {NOT_MOVED}"
            )
        block = as_floats(as_array(rows))
        if block.shape != (count, self.shape[1]):
            raise ValueError(
                f"the function of Factors.from_blocks returned shape {block.shape} for rows "
                f"{first} to {first + count - 1}, expected {(count, self.shape[1])}"
            )
        return np.ascontiguousarray(block, np.float64)

    def rows(self, first: int, count: int) -> npt.NDArray[np.float64]:
        out = np.empty((count, self.shape[1]))
        for begin in range(first - first % self.block, first + count, self.block):
            made = self.made(begin, min(self.block, self.shape[0] - begin))
            low, high = max(begin, first), min(begin + self.block, first + count)
            out[low - first : high - first] = made[low - begin : high - begin]
        return out

    def entries(self, rows: npt.NDArray[Any], cols: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        out = np.empty(len(rows))
        number = rows // self.block
        for one in np.unique(number):
            begin, some = int(one) * self.block, number == one
            made = self.made(begin, min(self.block, self.shape[0] - begin))
            out[some] = made[rows[some] - begin, cols[some]]
        return out

    def solve(  # as _core.solve of an array
        self,
        sense: _core.Sense,
        threads: int,
        certificate: bool,
        prices: Any,
        transposed: bool,
        limit: float,
        most: bool,
    ) -> Solution:
        return _core.solve_blocks(
            self.made, *self.shape, self.block, sense, threads, certificate, prices, limit, most,
            self.cache_bytes,
        )  # fmt: skip

    def margins(
        self, sense: _core.Sense, col_of_row: Any, row_dual: Any, col_dual: Any, search_limit: int
    ) -> _Margins:
        return _core.block_margins(
            self.made, *self.shape, self.block, sense, col_of_row, row_dual, col_dual,
            search_limit, self.cache_bytes,
        )  # fmt: skip


def _side(values: Any, name: str) -> npt.NDArray[Any]:
    """One side as C-contiguous float32 or float64 [rows, terms], checked."""
    if is_on_device(values):
        raise ValueError(
            f"{name} is on a CUDA device, where factors are not supported yet: pass {name}.cpu(); "
            f"{NOT_MOVED}"
        )
    array = as_array(values)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise TypeError(f"{name} must be real numbers that float64 holds, got {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{name} must be a matrix [rows, terms], got shape {array.shape}")
    if len(array) > _core.most_lines:
        raise ValueError(
            f"{name} has {len(array)} rows, and the solver takes up to {_core.most_lines}"
        )
    single = np.can_cast(array.dtype, np.float32, "safe")
    side = np.ascontiguousarray(array, np.float32 if single else np.float64)
    finite = np.isfinite(side)
    if not finite.all():
        row, col = np.unravel_index(int(finite.argmin()), side.shape)
        raise ValueError(
            f"{name} contains invalid numeric entries: {side[row, col]} in row {row}, column {col}"
        )
    return side


def _of_middling_size(side: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rows times powers of two with which squares neither overflow nor vanish; cosines stay."""
    greatest = np.abs(side).max(axis=1, initial=0.0)
    extreme = (greatest > 0.0) & ((greatest > 1e100) | (greatest < 1e-100))
    if not extreme.any():
        return side
    _, exponent = np.frexp(greatest)
    scaled: npt.NDArray[Any] = np.ldexp(side, np.where(extreme, -exponent, 0)[:, None])
    return scaled


def _bytes(asked: Any) -> int:
    """A budget of memory."""
    try:
        number = operator.index(asked)
    except TypeError:
        raise TypeError(f"cache_bytes must be an int, got {asked!r:.60}") from None
    if not 0 <= number <= math.inf:
        raise ValueError(f"cache_bytes must be at least 0, got {number}")
    return min(number, 2**62)
