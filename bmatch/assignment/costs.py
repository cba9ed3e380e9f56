"""Cost matrices as they come: types, exact integers, senses, and what is said of bad ones."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bmatch import _core
from bmatch.arrays import is_tensor

_Sense = _core.Sense

MATRIX, BATCH = "a matrix (2-D array)", "a batch of matrices (3-D array)"


class Floats(NamedTuple):
    """Entries as the solver on the host reads them.

    Attributes
    ----------
    array : float32 or float64
    shift : int
        What was subtracted from every entry to keep integers exact.
    """

    array: npt.NDArray[Any]
    shift: int


def as_floats(cost: npt.ArrayLike, ndim: int, kind: str) -> Floats:
    """An array or a tensor on the host as floats, without a copy where it holds them.

    Raises
    ------
    ValueError
        If its dimensions are not `ndim` (`kind` says what is expected), if it lies on a device, or
        if float64 does not hold its integers.
    TypeError
        If its entries are not numbers that float64 can hold.
    """
    array = _tensor_as_array(cost) if is_tensor(cost) else np.asarray(cost)
    require_dimensions(array.ndim, ndim, kind)
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
    return Floats(array, shift)


def require_dimensions(given: int, expected: int, kind: str) -> None:
    """Raise a ValueError, in SciPy's words, if an array has other dimensions than `expected`."""
    if given != expected:
        raise ValueError(f"expected {kind}, got a {given} array")


def sense_of(maximize: bool, sign_marginalized: bool) -> _core.Sense:
    """What is made least or greatest, as the solver is told."""
    if sign_marginalized:
        return _Sense.maximize_magnitude
    return _Sense.maximize if maximize else _Sense.minimize


def sense_of_moved(sense: _core.Sense, shift: int) -> _core.Sense:
    """The sense for a matrix from which `shift` was subtracted.

    Magnitudes do not commute with a shift; but integers that had to be moved lie within 2**53 of
    one that is further than that from zero, so all have its sign, and ``|c|`` is c or -c.
    """
    if shift and sense == _Sense.maximize_magnitude:
        return _Sense.maximize if shift > 0 else _Sense.minimize
    return sense


def moved_sum(costs: npt.NDArray[np.float64], stored: _core.Sense, shift: int) -> float:
    """The sum of minimised costs in the units of the given matrix, to one rounding."""
    if not shift:
        return math.fsum(costs)
    moved = shift if stored == _Sense.minimize else -shift
    return float(sum(map(int, costs.tolist())) + moved * len(costs))


def infeasible(trapped: npt.NDArray[np.int64], kind: str) -> str:
    """The error for rows or columns (`kind`) that compete for too few of the others."""
    other = "rows" if kind == "columns" else "columns"
    shown = ", ".join(map(str, trapped[:10])) + (", ..." if len(trapped) > 10 else "")
    if len(trapped) == 1:
        return f"cost matrix is infeasible: {kind[:-1]} {shown} has no finite entry"
    return (
        f"cost matrix is infeasible: the {len(trapped)} {kind} {shown} have finite entries in "
        f"only {len(trapped) - 1} {other}"
    )


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


def _tensor_as_array(tensor: Any) -> npt.NDArray[Any]:
    import torch

    if tensor.device.type != "cpu":
        raise ValueError(
            f"the cost matrix is on {tensor.device}, and the solver runs on CPUs and CUDA devices: "
            "pass cost.cpu(); nothing is moved between devices unasked"
        )
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    array: npt.NDArray[Any] = tensor.detach().resolve_neg().numpy()
    return array
