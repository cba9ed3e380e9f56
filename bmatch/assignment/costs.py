"""A cost matrix as the solver reads it: type, exact integers, sense, orientation, where it lies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bmatch import _core
from bmatch.arrays import NOT_MOVED, as_array, as_tensor, is_tensor, kind_of
from bmatch.assignment.ragged import checked_sizes, without_padding

if TYPE_CHECKING:
    import torch

_Sense = _core.Sense

_KINDS = {2: "a matrix (2-D array)", 3: "a batch of matrices (3-D array)"}

INVALID = "matrix contains invalid numeric entries"
"""The error for NaN, and for infinities that forbid nothing."""


class Costs(NamedTuple):
    """A matrix, or a batch of one shape, and all that is asked of it once.

    Attributes
    ----------
    matrix : float32 or float64 [n, m] or [B, n, m]
        An array; a tensor of any floating type, if `on_device`. Not copied where it came so.
    sense : Sense
        What is made least or greatest of the entries that were given.
    shift : int
        What was subtracted from every entry to keep integers exact.
    transposed : bool
        Whether the solver's rows are the columns of `matrix`: it wants the short side as its rows,
        and the entries of a row side by side.
    oriented
        `matrix` with the solver's rows as its rows: a view; on a device a copy where it has to be
        one for the entries of a row to lie side by side.
    on_device : bool
        Whether `matrix` is in the memory of a CUDA device, where it is solved.
    to_kind : function
        Makes results things of the kind that was given, where that lies.
    sizes : int64 [B, 2] or None
        Rows and columns of each problem of a ragged batch; an array on the host.
    """

    matrix: Any
    sense: _core.Sense
    shift: int
    transposed: bool
    oriented: Any
    on_device: bool
    to_kind: Callable[[Any], Any]
    sizes: npt.NDArray[np.int64] | None = None

    @classmethod
    def of(
        cls,
        cost: npt.ArrayLike,
        sense: _core.Sense,
        ndim: int = 2,
        to_kind: Callable[[Any], Any] | None = None,
        sizes: Any = None,
    ) -> Costs:
        """An array or a tensor on the host; `ndim` is 2 for a matrix, 3 for a batch.

        `to_kind` is for results that are to be of another kind than `cost`, `sizes` for a batch of
        problems that are smaller than its shape.

        Raises
        ------
        ValueError
            If it has other dimensions, lies on a device, or holds integers that float64 does not.
        TypeError
            If its entries are not numbers that float64 can hold.
        """
        if is_tensor(cost) and cost.device.type != "cpu":  # type: ignore[union-attr]
            raise ValueError(
                f"the cost matrix is on {cost.device}, and the solver runs on CPUs and CUDA "  # type: ignore[union-attr]
                f"devices: pass cost.cpu(); {NOT_MOVED}"
            )
        array = as_array(cost)
        _require_dimensions(array.ndim, ndim)
        if sizes is not None:
            sizes = checked_sizes(sizes, array.shape)
            array = without_padding(array, sizes)
        matrix, shift = _host_floats(array)
        n, m = matrix.shape[-2:]
        columnwise = ndim == 2 and abs(matrix.strides[0]) < abs(matrix.strides[1])
        transposed = n > m or (n == m and columnwise)
        oriented = matrix.swapaxes(-1, -2) if transposed else matrix
        to_kind = to_kind or kind_of(cost, False)
        return cls(matrix, sense, shift, transposed, oriented, False, to_kind, sizes)

    @classmethod
    def of_device(cls, cost: Any, sense: _core.Sense, ndim: int = 2, sizes: Any = None) -> Costs:
        """The same for a tensor, or an array of another library, on the CUDA device it lies on.

        Raises
        ------
        ValueError
            If it has other dimensions, or holds integers that float64 does not.
        TypeError
            If its entries are not numbers that float64 can hold.
        """
        tensor = as_tensor(cost)
        _require_dimensions(tensor.ndim, ndim)
        if sizes is not None:
            sizes = checked_sizes(sizes, tuple(tensor.shape))
            tensor = without_padding(tensor, sizes)
        matrix = _device_floats(tensor)
        n, m = matrix.shape[-2:]
        columnwise = ndim == 2 and matrix.stride(1) != 1 and matrix.stride(0) == 1
        transposed = n > m or (n == m and columnwise)
        oriented = matrix.mT if transposed else matrix
        if oriented.stride(-1) != 1:
            oriented = oriented.contiguous()
        return cls(matrix, sense, 0, transposed, oriented, True, kind_of(cost, True), sizes)

    def on_host(self) -> Costs:
        """The same in the memory of the host, oriented alike."""
        if not self.on_device:
            return self
        matrix, _ = _host_floats(as_array(self.matrix))
        oriented = matrix.T if self.transposed else matrix
        return self._replace(matrix=matrix, oriented=oriented, on_device=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """[n, m], or [B, n, m]."""
        return tuple(self.matrix.shape)

    @property
    def transposed_square(self) -> bool:
        """Whether ties between equal columns go by what are the columns of `matrix`."""
        return self.transposed and self.matrix.shape[0] == self.matrix.shape[1]

    @property
    def matches_magnitudes(self) -> bool:
        """Whether the sum of ``|cost|`` is maximised."""
        return self.sense == _Sense.maximize_magnitude

    @property
    def stored_sense(self) -> _core.Sense:
        """The sense for the entries as they are stored, less `shift`.

        Magnitudes do not commute with a shift; but integers that had to be moved lie within 2**53
        of one that is further than that from zero, so all have its sign, and ``|c|`` is c or -c.
        """
        if self.shift and self.sense == _Sense.maximize_magnitude:
            return _Sense.maximize if self.shift > 0 else _Sense.minimize
        return self.sense

    @property
    def flip(self) -> float:
        """1 or -1: what turns minimised costs, and their duals, into the units that were given."""
        return 1.0 if self.sense == _Sense.minimize else -1.0

    @property
    def minimised_shift(self) -> int:
        """What minimised costs of stored entries lack to those of the given ones."""
        return self.shift if self.stored_sense == _Sense.minimize else -self.shift

    def minimised(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Minimised costs of stored entries, on the host."""
        values = stored.astype(np.float64)
        if self.stored_sense == _Sense.maximize_magnitude:
            return -np.abs(values)
        return values if self.stored_sense == _Sense.minimize else -values

    def total(self, minimised: npt.NDArray[np.float64]) -> float:
        """The sum of minimised costs of the given matrix, to one rounding."""
        if not self.shift:
            return math.fsum(minimised)
        return float(sum(map(int, minimised.tolist())) + self.minimised_shift * len(minimised))

    def given(self, values: Any) -> Any:
        """Objectives and duals of minimised costs in the units that were given; new, without -0."""
        return (values if self.sense == _Sense.minimize else -values) + 0.0

    def negative(self, row_ind: Any, col_ind: Any) -> Any:
        """Which of these entries are below zero, as they were given."""
        if self.shift:
            return np.full(len(row_ind), self.shift < 0)
        return self.matrix[row_ind, col_ind] < 0

    def infeasible(self, trapped: npt.NDArray[np.int64]) -> str:
        """The error for the solver's rows that compete for too few of its columns."""
        kind, other = ("columns", "rows") if self.transposed else ("rows", "columns")
        shown = ", ".join(map(str, trapped[:10])) + (", ..." if len(trapped) > 10 else "")
        if len(trapped) == 1:
            return f"cost matrix is infeasible: {kind[:-1]} {shown} has no finite entry"
        return (
            f"cost matrix is infeasible: the {len(trapped)} {kind} {shown} have finite entries in "
            f"only {len(trapped) - 1} {other}"
        )


def sense_of(maximize: bool, sign_marginalized: bool) -> _core.Sense:
    """What is made least or greatest, as the solver is asked."""
    if sign_marginalized:
        return _Sense.maximize_magnitude
    return _Sense.maximize if maximize else _Sense.minimize


def _require_dimensions(given: int, expected: int) -> None:
    """Raise a ValueError, in SciPy's words."""
    if given != expected:
        raise ValueError(f"expected {_KINDS[expected]}, got a {given} array")


def _cannot_cast(dtype: str) -> TypeError:
    return TypeError(
        f"Cannot cast array data from {dtype} to dtype('float64') according to the rule 'safe'"
    )


def _host_floats(array: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], int]:
    """Entries as float32 or float64, without a copy where they are, and what they were moved by."""
    shift = 0
    if array.dtype not in (np.float32, np.float64) or not array.dtype.isnative:
        if not np.can_cast(array.dtype, np.float64, "safe"):
            raise _cannot_cast(repr(array.dtype))
        if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and array.size:
            array, shift = _exact_integers(array)
        single = np.can_cast(array.dtype, np.float32, "safe")  # half the memory to read
        array = array.astype(np.float32 if single else np.float64)
    if any(stride % array.itemsize for stride in array.strides) or not array.flags.aligned:
        array = array.copy()  # a field of a structured array: no whole number of elements apart
    return array, shift


def _device_floats(tensor: torch.Tensor) -> torch.Tensor:
    """Entries in a type that the device reads; integers exactly, as float32 or float64."""
    import torch

    if tensor.dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        return tensor
    if tensor.dtype.is_complex or tensor.dtype.is_floating_point:
        raise _cannot_cast(str(tensor.dtype))
    if tensor.dtype.itemsize == 8 and tensor.numel():
        low, high = (int(x) for x in tensor.aminmax())
        if low < -(2**53) or high > 2**53:
            raise ValueError(
                f"cost matrix holds integers from {low} to {high}, and float64 does not hold them "
                "one by one: pass cost.cpu(), or floats"
            )
    return tensor.to(torch.float32 if tensor.dtype.itemsize <= 2 else torch.float64)


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
