"""A cost matrix as the solver reads it: type, exact integers, sense, orientation, where it lies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bmatch import _core
from bmatch.arrays import (
    BFLOAT16,
    NOT_MOVED,
    as_array,
    as_floats,
    as_tensor,
    is_tensor,
    kind_of,
)
from bmatch.assignment.entries import (
    EXACT,
    as_numbers,
    cannot_cast,
    exact_integers,
    exact_integers_of_each,
    find_invalid,
)
from bmatch.assignment.factors import Factors
from bmatch.assignment.ragged import checked_sizes, without_padding

if TYPE_CHECKING:
    import torch

_Sense = _core.Sense

_KINDS = {2: "a matrix (2-D array)", 3: "a batch of matrices (3-D array)"}


class Costs(NamedTuple):
    """A matrix, or a batch of one shape, and all that is asked of it once.

    Attributes
    ----------
    matrix : [n, m] or [B, n, m]
        An array as it is stored, of floats, booleans, integers of up to 32 bits or `BFLOAT16`; a
        tensor of any floating type, if `on_device`. Not copied where it came so. Or `Factors`.
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
    forbids : bool
        Whether NaN and both infinities forbid a pair, in place of the one infinity that costs most.
    sizes : int64 [B, 2] or None
        Rows and columns of each problem of a ragged batch; an array on the host.
    limit : float, or float64 [B] for a batch, or None
        Minimised cost above which no pair comes out, and at which rows stay out; inf for none.
    partial : bool
        Whether as few as possible stay out where there is no complete matching.
    """

    matrix: Any
    sense: _core.Sense
    shift: int
    transposed: bool
    oriented: Any
    on_device: bool
    to_kind: Callable[[Any], Any]
    forbids: bool = False
    sizes: npt.NDArray[np.int64] | None = None
    limit: Any = None
    partial: bool = False

    @classmethod
    def of(
        cls,
        cost: npt.ArrayLike,
        sense: _core.Sense,
        ndim: int = 2,
        to_kind: Callable[[Any], Any] | None = None,
        forbids: bool = False,
        sizes: Any = None,
    ) -> Costs:
        """An array or a tensor on the host; `ndim` is 2 for a matrix, 3 for a batch.

        `to_kind` is for results that are to be of another kind than `cost`, `sizes` for a batch of
        problems that are smaller than its shape.

        Raises
        ------
        ValueError
            If it has other dimensions, is too large, or lies on a device.
        TypeError
            If its entries are not numbers that float64 can hold.
        """
        if isinstance(cost, Factors):
            return cls._of_factors(cost, sense, ndim, forbids)
        if is_tensor(cost) and cost.device.type != "cpu":  # type: ignore[union-attr]
            raise ValueError(_elsewhere(cost))
        numbers: Any = cost
        if sizes is not None:
            numbers = as_array(cost, stored=True)
            _require_dimensions(numbers.shape, ndim)
            sizes = checked_sizes(sizes, numbers.shape)
            numbers = without_padding(numbers, sizes)
        array = as_numbers(numbers)
        _require_dimensions(array.shape, ndim)
        matrix, shift = _host_entries(array)
        n, m = matrix.shape[-2:]
        columnwise = ndim == 2 and abs(matrix.strides[0]) < abs(matrix.strides[1])
        transposed = n > m or (n == m and columnwise)
        oriented = matrix.swapaxes(-1, -2) if transposed else matrix
        to_kind = to_kind or kind_of(cost, False)
        return cls(matrix, sense, shift, transposed, oriented, False, to_kind, forbids, sizes)

    @classmethod
    def _of_factors(cls, cost: Factors, sense: _core.Sense, ndim: int, forbids: bool) -> Costs:
        _require_dimensions(cost.shape, ndim)
        if forbids:
            raise ValueError(
                "nonfinite='forbid' makes a copy of the matrix, and of factors there is none: let "
                "the function of Factors.from_blocks return inf where a pair is forbidden"
            )
        transposed = cost.shape[0] > cost.shape[1]
        oriented = cost.T if transposed else cost
        return cls(cost, sense, 0, transposed, oriented, False, cost.to_kind)

    @classmethod
    def of_device(
        cls,
        cost: Any,
        sense: _core.Sense,
        ndim: int = 2,
        forbids: bool = False,
        sizes: Any = None,
    ) -> Costs:
        """The same for a tensor, or an array of another library, on the CUDA device it lies on.

        Raises
        ------
        ValueError
            If it has other dimensions, or holds integers that float64 does not.
        TypeError
            If its entries are not numbers that float64 can hold.
        """
        tensor = as_tensor(cost)
        _require_dimensions(tuple(tensor.shape), ndim)
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
        return cls(
            matrix, sense, 0, transposed, oriented, True, kind_of(cost, True), forbids, sizes
        )

    def on_host(self) -> Costs:
        """The same in the memory of the host, oriented alike."""
        if not self.on_device:
            return self
        matrix, _ = _host_entries(as_array(self.matrix, stored=True))
        oriented = matrix.swapaxes(-1, -2) if self.transposed else matrix
        return self._replace(matrix=matrix, oriented=oriented, on_device=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """[n, m], or [B, n, m]."""
        return tuple(self.matrix.shape)

    @property
    def is_partial(self) -> bool:
        """Whether rows of the solver may stay out."""
        return self.partial or self.limit is not None

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

    def block(self, rows: npt.NDArray[Any], cols: npt.NDArray[Any]) -> Costs:
        """These rows and columns of the matrix alone."""
        return self._replace(matrix=self.matrix[np.ix_(rows, cols)])

    @property
    def minimised_shift(self) -> int:
        """What minimised costs of stored entries lack to those of the given ones."""
        return self.shift if self.stored_sense == _Sense.minimize else -self.shift

    def minimised(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Minimised costs of stored entries, on the host."""
        values: npt.NDArray[np.float64] = as_floats(stored).astype(np.float64)
        if self.forbids:
            values, sense = self.forbidding(values)
            return values if sense == _Sense.minimize else -values
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
        return values + 0.0 if self.sense == _Sense.minimize else 0.0 - values

    def negative(self, row_ind: Any, col_ind: Any) -> Any:
        """Which of these entries are below zero, as they were given."""
        if self.shift:
            return np.full(len(row_ind), self.shift < 0)
        entries = self.matrix[row_ind, col_ind]
        return (entries if is_tensor(entries) else as_floats(entries)) < 0

    def forbidding(self, entries: Any) -> tuple[Any, _core.Sense]:
        """Entries of which NaN and both infinities forbid a pair, in a copy, and their sense."""
        library: Any = np
        if is_tensor(entries):
            import torch as library
        else:
            entries = as_floats(entries)
        sense = self.stored_sense
        finite = library.isfinite(entries)
        if sense == _Sense.maximize_magnitude:  # where no number forbids a pair
            sense, entries = _Sense.minimize, -abs(entries)
        worst = math.inf if sense == _Sense.minimize else -math.inf
        return library.where(finite, entries, worst), sense

    def invalid(self, problem: int | None = None, number: int | None = None) -> str:
        """The error for NaN, and for infinities that forbid nothing; of a batch in one problem.

        `number` is that problem's name, if it is not where it stands in this batch.
        """
        message, asked, matrix = "matrix contains invalid numeric entries", "", self.matrix
        if problem is None:
            asked = " of bmatch.solve"
        else:
            named = problem if number is None else number
            message, matrix = f"{message} (problem {named} of the batch)", matrix[problem]
            if self.sizes is not None:
                rows, cols = self.sizes[problem]
                matrix = matrix[:rows, :cols]
        worst = {_Sense.minimize: math.inf, _Sense.maximize: -math.inf}
        found = find_invalid(matrix, worst.get(self.sense, math.nan))
        if found is None:
            return message
        first = "" if found.number == 1 else f", the first of {found.number}"
        message = f"{message}: {found.value} in row {found.row}, column {found.col}{first}"
        if isinstance(matrix, Factors):
            return message
        return f"{message}; nonfinite='forbid'{asked} takes such entries for forbidden pairs"

    def infeasible(self, trapped: npt.NDArray[np.int64]) -> str:
        """The error for the solver's rows that compete for too few of its columns."""
        return too_few(trapped, self.transposed)


def too_few(trapped: npt.NDArray[np.int64], transposed: bool) -> str:
    """The error for the solver's rows that compete for too few of its columns."""
    kind, other = ("column", "row") if transposed else ("row", "column")
    shown = ", ".join(map(str, trapped[:10])) + (", ..." if len(trapped) > 10 else "")
    if len(trapped) == 1:
        return f"cost matrix is infeasible: {kind} {shown} has no finite entry"
    return (
        f"cost matrix is infeasible: the {len(trapped)} {kind}s {shown} have finite entries in "
        f"only {counted(len(trapped) - 1, other)}"
    )


def counted(count: int, noun: str) -> str:
    """A number and its noun: 1 column, 2 columns."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def sense_of(maximize: bool, sign_marginalized: bool) -> _core.Sense:
    """What is made least or greatest, as the solver is asked."""
    if sign_marginalized:
        return _Sense.maximize_magnitude
    return _Sense.maximize if maximize else _Sense.minimize


def _require_dimensions(shape: tuple[int, ...], expected: int) -> None:
    """Raise a ValueError, for other dimensions in SciPy's words."""
    if len(shape) != expected:
        raise ValueError(f"expected {_KINDS[expected]}, got a {len(shape)} array")
    if max(shape[-2:]) > _core.most_lines:
        raise ValueError(
            f"cost matrix has shape {shape[-2:]}, and the solver takes up to {_core.most_lines} "
            "rows and as many columns"
        )


def _elsewhere(tensor: Any) -> str:
    """The error for a tensor on a device that the solver does not run on."""
    if tensor.device.type == "meta":
        return "the cost matrix is on meta, where tensors hold no numbers: pass one that does"
    return (
        f"the cost matrix is on {tensor.device}, and the solver runs on CPUs and CUDA devices: "
        f"pass cost.cpu(); {NOT_MOVED}"
    )


def _host_entries(array: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], int]:
    """Entries of a type that the solver reads, and what they were moved by.

    Without a copy where they are of one; integers of 64 bits become float64.
    """
    shift = 0
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        if array.ndim == 3 and array.size:
            array = exact_integers_of_each(array)
        elif array.size:
            array, shift = exact_integers(array)
        array = array.astype(np.float64)
    elif array.dtype != BFLOAT16 and not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(stride % array.itemsize for stride in array.strides) or not array.flags.aligned:
        array = array.copy()  # a field of a structured array: no whole number of elements apart
    return array, shift


def _device_floats(tensor: torch.Tensor) -> torch.Tensor:
    """Entries in a type that the device reads; integers as float32 or float64.

    Of a batch, whose answers bear no costs, problems are moved to where float64 holds them.
    """
    import torch

    if tensor.dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        return tensor
    if tensor.dtype.is_floating_point and tensor.dtype.itemsize == 1:
        return tensor.float()
    if tensor.dtype.is_complex or tensor.dtype.is_floating_point:
        raise cannot_cast(str(tensor.dtype))
    if tensor.dtype.itemsize == 8 and tensor.numel():
        low, high = tensor.amin((-2, -1), keepdim=True), tensor.amax((-2, -1), keepdim=True)
        spread = high - low  # below zero where int64 does not hold it
        moved = ((low < -EXACT) | (high > EXACT)) & (spread >= 0) & (spread <= EXACT)
        if bool(moved.any()):
            if tensor.ndim == 2:
                raise ValueError(
                    f"cost matrix holds integers from {int(low)} to {int(high)}, and float64 does "
                    "not hold them one by one: pass cost.cpu(), or floats"
                )
            tensor = tensor - torch.where(moved, low, 0)
    return tensor.to(torch.float32 if tensor.dtype.itemsize <= 2 else torch.float64)
