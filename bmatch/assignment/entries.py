"""Entries of a cost matrix: what counts as a number, and which of them no solver can take."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bmatch.arrays import BFLOAT16, as_array, as_floats, is_tensor

EXACT = 2**53
"""float64 holds integers up to this one by one."""

_AT_ONCE = 2**20


class Invalid(NamedTuple):
    """The first entry, by rows, that is none, and how many there are."""

    row: int
    col: int
    value: float
    number: int


def cannot_cast(dtype: str) -> TypeError:
    """The error for what float64 cannot hold, in SciPy's words."""
    return TypeError(
        f"Cannot cast array data from {dtype} to dtype('float64') according to the rule 'safe'"
    )


def as_numbers(cost: npt.ArrayLike) -> npt.NDArray[Any]:
    """Array_like as an array of a type that casts to float64, as it is stored.

    An array of objects (Decimal, Fraction, Python's integers) is rounded to float64 number by
    number; so are a list of numeric strings, and a data frame, whose missing values become NaN.

    Raises
    ------
    TypeError
        If the entries are not numbers that float64 can hold.
    """
    array = as_array(cost, stored=True)
    kind = array.dtype.kind
    if (kind in "biuf" and array.dtype.itemsize <= 8) or array.dtype == BFLOAT16 or array.ndim == 0:
        return array  # what is no array has another error than what it holds
    is_array = isinstance(cost, np.ndarray) or is_tensor(cost)
    if kind != "O" and (is_array or kind not in "fSU"):
        raise cannot_cast(repr(array.dtype))
    try:
        if hasattr(cost, "to_numpy"):
            numbers: npt.NDArray[Any] = cost.to_numpy(dtype=np.float64, na_value=np.nan)
            return numbers
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"cost matrix holds what float64 cannot hold: {error}") from None


def exact_integers(array: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], int]:
    """64-bit integers as float64 holds them, and what they were moved by; it moves no optimum.

    Integers further apart than 2**53, of which some stand for "never" as a rule, are rounded.
    """
    low, high = int(array.min()), int(array.max())
    if (low >= -EXACT and high <= EXACT) or high - low > EXACT:
        return array, 0
    return array - array.dtype.type(low), low


def exact_integers_of_each(batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same for each problem of a batch [B, n, m]; float64 where any of them was moved."""
    if int(batch.min()) >= -EXACT and int(batch.max()) <= EXACT:
        return batch
    return np.stack([exact_integers(problem)[0].astype(np.float64) for problem in batch])


def find_invalid(matrix: Any, forbidding: float) -> Invalid | None:
    """Where a matrix [n, m], an array or a tensor, holds NaN, or an infinity but `forbidding`.

    `forbidding` is inf or -inf, or NaN if no infinity forbids a pair.
    """
    n, m = matrix.shape
    step = max(1, _AT_ONCE // max(m, 1))
    first, number = None, 0
    for start in range(0, n, step):
        some = as_floats(as_array(matrix[start : start + step], stored=True))
        invalid = ~np.isfinite(some) & (some != forbidding)
        found = int(invalid.sum())
        if found and first is None:
            row, col = np.unravel_index(int(invalid.argmax()), invalid.shape)
            first = start + int(row), int(col), float(some[row, col])
        number += found
    return None if first is None else Invalid(*first, number)
