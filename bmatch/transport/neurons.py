"""Coordinates by number, and scores of coordinates: sets of neurons, attributions, masks.

A coordinate of the source is one of the target, with another number and perhaps the other sign. A
set by magnitude carries over by permutation; pairs of number and sign need the signs too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bmatch.arrays import AnyArray, as_array, is_tensor
from bmatch.gauge import SignedPermutation
from bmatch.groups import Gauge
from bmatch.transport.hooks import place_of

INDEX, SIGN, WEIGHT, SITE = "index", "sign", "weight", "site"
"""Columns of lists that say something of coordinates; all others stay."""


def neurons(indices: Any, gauge: Gauge, signs: Any = None) -> Any:
    """The numbers that coordinates have in the target, and their signs.

    Parameters
    ----------
    indices : int array, tensor or list, of any shape
        Numbers of source coordinates.
    gauge : SignedPermutation
        From the coordinates that they number to those wanted.
    signs : array, tensor or list of +1 and -1, optional
        The sign that each coordinate has in the source, of the shape of `indices`.

    Returns
    -------
    indices, or (indices, signs)
        New arrays, tensors for tensors, in the same order and of the same dtypes.

    Raises
    ------
    TypeError
        If the numbers are no integers, or the gauge rotates: no coordinate stays one then.
    ValueError
        If a number is out of range, or the signs are not +1 and -1, or of another shape.

    Notes
    -----
    A set that was chosen by its largest *signed* values is no statement about coordinates that any
    gauge carries: where signs flip, the largest values are those of others. Carry the scores
    (`attributions`) and choose again, or choose by magnitude and keep number and sign.
    """
    permutation = _permutation(gauge).to(None)
    numbers = as_array(indices)
    if not numbers.size:
        numbers = numbers.astype(np.int64)
    if numbers.dtype.kind not in "iu":
        raise TypeError(f"indices must be integers, got {numbers.dtype}; masks: attributions")
    _require_range(numbers, permutation.dim)
    moved = np.argsort(permutation.perm)[numbers]
    made = _like(indices, moved, numbers.dtype)
    if signs is None:
        return made
    given = as_array(signs)
    if given.dtype.kind not in "if" or given.shape != numbers.shape or np.any(abs(given) != 1):
        raise ValueError(
            f"signs must be +1 or -1, one for each of the indices of shape {numbers.shape}"
        )
    return made, _like(signs, given * permutation.sign[moved].astype(given.dtype), given.dtype)


def attributions(scores: AnyArray, gauge: Gauge, *, signed: bool, axis: int = -1) -> AnyArray:
    """Scores of all coordinates, or a mask of them, in target coordinates.

    Parameters
    ----------
    scores : array or tensor, d entries along `axis`
    gauge : SignedPermutation, or OrthogonalGauge for signed scores
        From the coordinates that they are of to those wanted.
    signed : bool
        Whether a score turns with its coordinate, as activations, gradients, projections and
        weights of probes do. False for gradient x activation, magnitudes, variances and masks.
    axis : int

    Returns
    -------
    array or tensor
        New, of the same shape and dtype.

    Raises
    ------
    TypeError
        If a mask is to take signs, or scores without signs are to be rotated.
    ValueError
        If there is another number of coordinates.
    """
    if signed:
        return gauge.apply(scores, axis)
    return _permutation(gauge).apply_permutation(scores, axis)


def neuron_frame(frame: Any, gauge: Gauge, signed: bool | None = None) -> Any:
    """A pandas data frame with a row a coordinate, in target coordinates.

    Parameters
    ----------
    frame : pandas.DataFrame
        With a column ``index``, and perhaps ``sign`` (+1 or -1), ``weight``, and ``site`` (a number
        of the stream, or the name of a hook). Rows of hooks outside the stream stay.
    gauge : SignedPermutation
        From the coordinates that they number to those wanted.
    signed : bool, optional
        Whether weights turn with their coordinates, as `attributions` has it; needed where the
        columns do not tell.

    Returns
    -------
    pandas.DataFrame
        New: other columns, rows, their order and dtypes as they were. As of `neurons`, rows that
        were chosen by their largest signed weights are not those that would be chosen there.

    Raises
    ------
    TypeError, ValueError
        If there is no such column, what it holds fits neither, or whether weights turn is open.
    """
    if INDEX not in frame.columns:
        raise ValueError(f"the frame has no column {INDEX!r}")
    names = [name for name in (INDEX, SIGN, WEIGHT, SITE) if name in frame.columns]
    moved = carried_columns({name: frame[name].tolist() for name in names}, gauge, signed)
    made = frame.copy()
    for name, values in moved.items():
        dtype = frame[name].dtype
        if getattr(dtype, "kind", "O") == "u" and min(values, default=0) < 0:
            raise ValueError(f"column {name} is {dtype}, which holds no signs")
        made[name] = np.array(values, dtype) if isinstance(dtype, np.dtype) else values
    return made


def carried_columns(
    columns: Mapping[str, Sequence[Any]], gauge: Gauge, signed: bool | None = None
) -> dict[str, list[Any]]:
    """Columns of coordinates in target coordinates: `INDEX`, and `SIGN` and `WEIGHT` if given.

    Values are numbers, or texts of numbers, and stay what they are.
    """
    permutation = _permutation(gauge).to(None)
    numbers = [_integer(value, row) for row, value in enumerate(columns[INDEX])]
    inside = [_in_stream(site) for site in columns.get(SITE, [None] * len(numbers))]
    if numbers and not any(inside):
        raise ValueError("no row lies in the residual stream: by their sites all are inside blocks")
    there = [n for n, here in zip(numbers, inside, strict=True) if here]
    _require_range(np.array(there, np.int64), permutation.dim)
    target = np.argsort(permutation.perm)
    sign = permutation.sign
    moved = [int(target[n]) if here else n for n, here in zip(numbers, inside, strict=True)]
    flips = [here and bool(sign[n] < 0) for n, here in zip(moved, inside, strict=True)]
    result: dict[str, list[Any]] = {
        INDEX: [
            str(n) if isinstance(given, str) else n
            for n, given in zip(moved, columns[INDEX], strict=True)
        ]
    }
    signs = [_sign(value, row) for row, value in enumerate(columns.get(SIGN, ()))]
    if SIGN in columns:
        result[SIGN] = _flipped(columns[SIGN], flips)
    if WEIGHT in columns:
        weights = [_number(value, row) for row, value in enumerate(columns[WEIGHT])]
        turn = any(flips) and _turn(weights, signs, signed)
        result[WEIGHT] = _flipped(columns[WEIGHT], flips) if turn else list(columns[WEIGHT])
    return result


def _turn(weights: Sequence[float], signs: Sequence[int], signed: bool | None) -> bool:
    """Whether weights turn with their coordinates: as told, or as their signs tell."""
    if signed is not None:
        return signed
    pairs = [(w, s) for w, s in zip(weights, signs, strict=False) if w and not math.isnan(w)]
    if any(s < 0 for _, s in pairs):
        if all((w > 0) == (s > 0) for w, s in pairs):
            return True
        if all(w > 0 for w, _ in pairs):
            return False
    raise ValueError(
        "whether the weights turn with the signs of their coordinates is not told: say signed=True "
        "for activations, gradients and projections, signed=False for gradient x activation and "
        "magnitudes"
    )


def _flipped(values: Sequence[Any], flips: Sequence[bool]) -> list[Any]:
    return [_negative(v) if flip else v for v, flip in zip(values, flips, strict=True)]


def _negative(value: Any) -> Any:
    if not isinstance(value, str):
        return value if value is None else -value
    if value in ("+", "-"):
        return "-" if value == "+" else "+"
    text = value.strip()
    if not text:
        return value
    return text[1:] if text.startswith("-") else f"-{text.removeprefix('+')}"


def _integer(value: Any, row: int) -> int:
    try:
        if isinstance(value, (bool, float)):
            raise ValueError
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"{INDEX} of row {row} is {value!r}, which numbers no coordinate"
        ) from None


def _number(value: Any, row: int) -> float:
    try:
        return math.nan if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{WEIGHT} of row {row} is {value!r}, which is no number") from None


def _sign(value: Any, row: int) -> int:
    try:
        sign = {"+": 1.0, "-": -1.0}.get(value) or float(value)
    except (TypeError, ValueError):
        sign = 0.0
    if abs(sign) != 1:
        raise ValueError(f"{SIGN} of row {row} is {value!r}, which is neither +1 nor -1")
    return int(sign)


def _in_stream(site: Any) -> bool:
    """Of a site of the stream, which has a number, or a hook by its name."""
    text = "" if site is None or site != site else str(site).strip()
    return not text or text.removesuffix(".0").isdigit() or place_of(text).in_stream


def _permutation(gauge: Gauge) -> SignedPermutation:
    if not isinstance(gauge, SignedPermutation):
        raise TypeError(f"the gauge is {gauge.group}: under it no coordinate stays one coordinate")
    return gauge


def _require_range(numbers: npt.NDArray[Any], dim: int) -> None:
    if numbers.size and (numbers.min() < 0 or numbers.max() >= dim):
        odd = int(numbers.min() if numbers.min() < 0 else numbers.max())
        raise ValueError(f"index {odd} is out of range: the gauge acts on {dim} coordinates")


def _like(given: Any, values: npt.NDArray[Any], dtype: Any) -> Any:
    if not is_tensor(given):
        return values.astype(dtype)
    import torch

    return torch.as_tensor(values, device=given.device).to(given.dtype)
