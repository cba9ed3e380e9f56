"""Ragged batches: problems of several sizes in one array, padded to the largest."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from bmatch.arrays import as_array, is_tensor


def checked_sizes(sizes: Any, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Rows and columns of each problem of a batch of this shape, as int64 [B, 2] on the host.

    Raises
    ------
    ValueError
        If there is not one pair a problem, or if a pair does not fit into the padded shape.
    TypeError
        If they are not integers.
    """
    problems, n, m = shape
    array = as_array(sizes)
    if array.size == 0 and problems == 0:
        return np.zeros((0, 2), np.int64)
    if array.shape != (problems, 2):
        raise ValueError(
            f"sizes has shape {array.shape}, expected ({problems}, 2): rows and columns of each "
            "problem"
        )
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"sizes holds {array.dtype}, expected integers: rows and columns of each problem"
        )
    outside = (array < 0) | (array > np.array((n, m)))
    if outside.any():
        first = int(np.flatnonzero(outside.any(axis=1))[0])
        rows, cols = array[first].tolist()
        raise ValueError(
            f"sizes says that problem {first} is {rows} x {cols}, expected at least 0 and at most "
            f"{n} x {m}, the shape that problems are padded to"
        )
    return np.ascontiguousarray(array, dtype=np.int64)


def without_padding(batch: Any, sizes: npt.NDArray[np.int64]) -> Any:
    """A batch whose padding may be read: another of its entries where the type's values are judged.

    NaN and infinities of padding are never seen, but all 64-bit integers are asked for their range,
    and every object for its number.
    """
    on_torch = is_tensor(batch)
    floats = batch.dtype.is_floating_point if on_torch else batch.dtype.kind == "f"
    if floats or batch.dtype.itemsize < 8:
        return batch
    rows, cols = np.arange(batch.shape[1])[:, None], np.arange(batch.shape[2])
    true = (rows < sizes[:, 0, None, None]) & (cols < sizes[:, 1, None, None])  # [B, n, m]
    entry = batch[np.unravel_index(true.argmax(), true.shape)] if true.any() else 0
    if on_torch:
        padding = sys.modules["torch"].as_tensor(~true, device=batch.device)
        return batch.masked_fill(padding, entry)
    return np.where(true, batch, entry)
