"""Orthogonal matrices: checked, drawn at random, and multiplied with what is stored."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from bmatch.arrays import as_array, is_tensor

ORTHOGONAL = 1e-9
"""Largest root mean square of a column of ``R^T R - I``. Products of ten thousand float64 rotations
stay below 1e-11; a matrix of float32 is above it, and has to be made exact first."""

FLAT = 1e-6
"""Gains are equal that differ by less, in units of the norm's gains. A rotation of their
coordinates moves what the norm gives by less than eight roundings of float32, which is what folding
by a product and a division leaves; numbers of 16 bits near 1 that differ at all differ by more."""

_ROWS = 8192  # how many rows are in the wider type at once


def as_square(matrix: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """A square, finite matrix as a new, read-only float64 [d, d].

    Raises
    ------
    ValueError
        If it is none.
    """
    host = np.array(as_array(matrix), dtype=np.float64, order="C")
    if host.ndim != 2 or host.shape[0] != host.shape[1]:
        raise ValueError(f"matrix must be square, got shape {host.shape}")
    if not np.all(np.isfinite(host)):
        raise ValueError("matrix must be finite, and holds NaN or infinity")
    host.flags.writeable = False
    return host


def require_orthogonal(matrix: npt.NDArray[np.float64]) -> None:
    """Refuse a matrix [d, d] that is not orthogonal to float64 precision.

    For a standard normal v the mean of ``|R^T R v - v|^2`` is the sum of all columns' squares of
    ``R^T R - I``: 16 of them tell in O(d^2) what the product tells in O(d^3).

    Raises
    ------
    ValueError
        With the error that was found.
    """
    dim = len(matrix)
    if dim == 0:
        return
    probes = np.random.default_rng(0).standard_normal((dim, 16))
    away = matrix.T @ (matrix @ probes) - probes
    error = float(np.sqrt((away**2).sum() / (16 * dim)))
    if error > ORTHOGONAL:
        raise ValueError(
            f"matrix is not orthogonal: a column of R^T R - I has root mean square {error:.1e}, "
            f"and at most {ORTHOGONAL:.0e} is taken for rounding (OrthogonalGauge.nearest makes it "
            "orthogonal)"
        )


def haar(dim: int, generator: np.random.Generator, fix_ones: bool) -> npt.NDArray[np.float64]:
    """A uniformly random orthogonal matrix [d, d], or one of those that fix the ones vector."""
    free = dim - 1 if fix_ones and dim else dim
    q, r = np.linalg.qr(generator.standard_normal((free, free)))
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)  # else the distribution is LAPACK's, not Haar's
    if free == dim:
        return q
    inner = np.eye(dim)
    inner[1:, 1:] = q
    basis = ones_first(dim)
    return basis.T @ inner @ basis


def ones_first(dim: int) -> npt.NDArray[np.float64]:
    """An orthogonal matrix whose first row is the ones vector's direction: a reflection."""
    normal = np.full(dim, dim**-0.5)
    normal[0] -= 1.0
    length = float(normal @ normal)
    reflection = np.eye(dim)
    return reflection if length == 0 else reflection - np.outer(normal, normal) * (2 / length)


def multiplied(matrix: npt.NDArray[np.float64], x: Any, dim: int) -> Any:
    """``matrix @ x`` along one dimension of an array or a tensor, in its own dtype.

    Multiplied in float64 for float64 and float32 and in float32 for types of 16 bits, some thousand
    rows at a time, and rounded once.
    """
    width = len(matrix)
    if not is_tensor(x):
        wide = np.float32 if x.dtype.itemsize < 4 else np.float64
        last = np.moveaxis(x, dim, -1)
        rows, right = last.reshape(-1, width), matrix.T.astype(wide)
        y = np.empty(rows.shape, x.dtype)
        for k in range(0, len(rows), _ROWS):
            y[k : k + _ROWS] = rows[k : k + _ROWS].astype(wide) @ right
        return np.ascontiguousarray(np.moveaxis(y.reshape(last.shape), -1, dim))
    torch = sys.modules["torch"]
    kind = torch.float32 if x.dtype.itemsize < 4 else torch.float64
    last = x.movedim(dim, -1)
    rows, right = last.reshape(-1, width), torch.tensor(matrix.T, dtype=kind, device=x.device)
    y = torch.empty(rows.shape, dtype=x.dtype, device=x.device)
    for k in range(0, len(rows), _ROWS):
        y[k : k + _ROWS] = rows[k : k + _ROWS].to(kind) @ right
    return y.view(last.shape).movedim(-1, dim).contiguous()
