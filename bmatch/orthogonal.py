"""Orthogonal gauges: the whole gauge group of a residual stream whose norms have flat gains.

RMSNorm without gains, or with gains that are the same for all coordinates (folded into the readers
by SliceGPT, QuaRot or TransformerLens, or never there), is unchanged by every orthogonal map of the
stream; LayerNorm by those that fix the ones vector up to its sign. Where gains differ a rotation
turns a diagonal of gains into a full matrix, which no norm holds: `apply_permutation` refuses it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bmatch.arrays import NOT_MOVED, AnyArray, as_array, copied, is_tensor
from bmatch.files import tensor_file
from bmatch.gauge import SignedPermutation, turned
from bmatch.groups import as_metadata
from bmatch.rotations import FLAT, as_square, haar, multiplied, require_orthogonal

_DIRECTION = "apply(x) = x @ matrix.T; x in source, result in target coordinates"


class OrthogonalGauge:
    """A gauge that may rotate: ``apply(x) = x @ R.T`` maps source to target coordinates.

    Gauges compose like matrices: ``(g @ h).apply(x) = g.apply(h.apply(x))``, and with
    `SignedPermutation` on either side, too. Immutable and hashable.

    Parameters
    ----------
    matrix : floating [d, d]
        Orthogonal to float64 precision: the root mean square of a column of ``R^T R - I`` is at
        most 1e-9. Of a matrix of lower precision take `nearest`.
    metadata : mapping of str to str, optional
        Where the gauge comes from; saved with it, no part of equality.

    Attributes
    ----------
    metadata : dict of str to str

    Raises
    ------
    ValueError
        If the matrix is not square, not finite or not orthogonal.
    TypeError
        If `metadata` holds anything but strings.

    Examples
    --------
    >>> import numpy as np, bmatch
    >>> g = bmatch.OrthogonalGauge([[0.6, -0.8], [0.8, 0.6]])
    >>> g.apply(np.array([1.0, 0.0]))
    array([0.6, 0.8])
    >>> (g.inverse() @ g).distance(bmatch.OrthogonalGauge.identity(2)) < 1e-15
    True
    """

    __slots__ = ("_device", "_matrix", "metadata")
    __array_ufunc__ = None  # `array @ gauge` is refused here, not guessed at by NumPy

    def __init__(self, matrix: npt.ArrayLike, metadata: Mapping[str, str] | None = None) -> None:
        self._matrix = as_square(matrix)
        require_orthogonal(self._matrix)
        self.metadata = as_metadata(metadata)
        self._device: Any = matrix.device if is_tensor(matrix) else None  # type: ignore[union-attr]

    # -- construction ---------------------------------------------------------------------

    @classmethod
    def identity(cls, dim: int) -> OrthogonalGauge:
        """The gauge of dimension `dim` that changes nothing."""
        if dim < 0:
            raise ValueError(f"dim must be at least 0, got {dim}")
        return cls._made(np.eye(dim))

    @classmethod
    def random(
        cls, dim: int, *, seed: int | np.random.Generator, fix_ones: bool = False
    ) -> OrthogonalGauge:
        """A uniformly random gauge (Haar); the same one for the same integer `seed`.

        With `fix_ones` of those that fix the ones vector, as LayerNorm wants them.
        """
        return cls._made(haar(dim, np.random.default_rng(seed), fix_ones))

    @classmethod
    def nearest(cls, matrix: npt.ArrayLike) -> OrthogonalGauge:
        """The orthogonal matrix nearest to a square one, its polar factor, from the SVD in float64.

        It maximises ``trace(R^T matrix)``, and so solves the orthogonal Procrustes problem for a
        cross-covariance (P. H. Schönemann, Psychometrika 31, 1966). Where singular values vanish it
        is one of many.
        """
        u, _, vt = np.linalg.svd(as_square(matrix))
        made = cls._made(u @ vt)
        return made._on(matrix.device if is_tensor(matrix) else None)  # type: ignore[union-attr]

    # -- attributes -----------------------------------------------------------------------

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return len(self._matrix)

    @property
    def group(self) -> Literal["orthogonal"]:
        """``"orthogonal"``, also for a signed permutation that is held as a matrix."""
        return "orthogonal"

    @property
    def fixes_ones(self) -> bool:
        """Whether the ones vector stays or is turned round, as LayerNorm wants it."""
        moved = self._matrix.sum(axis=1)
        away = min(np.abs(moved - 1).max(initial=0.0), np.abs(moved + 1).max(initial=0.0))
        return bool(away <= 1e-7)

    # -- action ---------------------------------------------------------------------------

    def apply(self, x: AnyArray, dim: int = -1) -> AnyArray:
        """Map `x` from source to target coordinates along one of its dimensions.

        Parameters
        ----------
        x : floating array or tensor, d entries along `dim`
            Left as it is. A tensor must be on the device of the gauge (see `to`); a gauge of NumPy
            arrays counts as being on the CPU.
        dim : int
            The dimension that carries the coordinates.

        Returns
        -------
        array or tensor
            New, of the shape, dtype and device of `x`. Computed in float64 for float64 and float32
            and in float32 for types of 16 bits, some thousand rows at a time, and rounded once.

        Raises
        ------
        ValueError
            If `x` has another number of coordinates or is on another device.
        TypeError
            If `x` is not of a floating type.
        """
        x = self._checked(x, dim)
        return self._mapped(x, dim, self._matrix)

    def apply_permutation(self, x: AnyArray, dim: int = -1) -> AnyArray:
        """Map gains: ``diag(result) = R diag(x) R^T``, where that is diagonal.

        So it is for flat gains, which stay, and where the gauge only mixes coordinates whose gains
        are equal.

        Raises
        ------
        ValueError
            As `apply`, and where gains differ that the gauge mixes.
        """
        x = self._checked(x, dim)
        rows = np.moveaxis(as_array(x), dim, -1).astype(np.float64)
        largest = np.abs(rows).max(initial=0.0)
        centre = (rows.max(-1, keepdims=True) + rows.min(-1, keepdims=True)) / 2 if rows.size else 0
        apart = rows - centre
        if np.abs(apart).max(initial=0.0) <= FLAT * largest / 2:
            same: AnyArray = copied(x)
            return same
        # Of R diag(a) R^T the diagonal is (R * R) a, and all of it has the norm of a.
        squares = self._matrix**2
        lost = (apart**2).sum(-1) - ((apart @ squares.T) ** 2).sum(-1)
        if np.any(lost > (FLAT * largest) ** 2 * self.dim):
            raise ValueError(
                f"gains of shape {tuple(x.shape)} differ by up to {2 * np.abs(apart).max():.2g} "
                "between coordinates that the gauge mixes, and only equal gains let themselves be "
                "rotated: fold them into what reads them first, or take a signed permutation"
            )
        return self._mapped(x, dim, squares)

    def _checked(self, x: AnyArray, dim: int) -> AnyArray:
        if not is_tensor(x):
            x = np.asarray(x)  # type: ignore[assignment]
        if not -x.ndim <= dim < x.ndim or x.shape[dim] != self.dim:
            raise ValueError(
                f"x of shape {tuple(x.shape)} has no {self.dim} coordinates along dimension {dim}, "
                "and the gauge acts on that many"
            )
        floating = (
            x.is_floating_point() if is_tensor(x) else np.issubdtype(x.dtype, np.floating)  # type: ignore[union-attr, arg-type]
        )
        if not floating:
            raise TypeError(f"x is {x.dtype}, and rotations need a floating type")
        return x

    def _mapped(self, x: AnyArray, dim: int, matrix: npt.NDArray[np.float64]) -> AnyArray:
        if is_tensor(x):
            import torch

            here = torch.device("cpu") if self._device is None else self._device
            if x.device != here:
                raise ValueError(
                    f"x is on {x.device} and the gauge on {here}: use gauge.to({str(x.device)!r}); "
                    f"{NOT_MOVED}"
                )
        y: AnyArray = multiplied(matrix, x, dim)
        return y

    # -- group ----------------------------------------------------------------------------

    def inverse(self) -> OrthogonalGauge:
        """The gauge that maps target coordinates back; in its metadata they are the source."""
        made = self._made(np.ascontiguousarray(self._matrix.T), turned(self.metadata))
        return made._on(self._device)

    def __matmul__(self, other: OrthogonalGauge | SignedPermutation) -> OrthogonalGauge:
        """``(g @ h).apply(x) = g.apply(h.apply(x))``: `other` acts first."""
        right = _matrix_of(other)
        if right is None:
            return NotImplemented
        self._require_same_dim(other.dim)
        return self._made(self._matrix @ right)._on(self._device)

    def __rmatmul__(self, other: SignedPermutation) -> OrthogonalGauge:
        left = _matrix_of(other)
        if left is None:
            return NotImplemented
        self._require_same_dim(other.dim)
        return self._made(left @ self._matrix)._on(self._device)

    def _require_same_dim(self, dim: int) -> None:
        if dim != self.dim:
            raise ValueError(f"gauges of {self.dim} and {dim} coordinates do not go together")

    def matrix(self, dtype: Any = None) -> Any:
        """R, ``[d, d]``; float64, or float32 as a tensor, by default."""
        if self._device is None:
            return self._matrix if dtype is None else self._matrix.astype(dtype)
        import torch

        copy = self._matrix.copy()
        return torch.as_tensor(copy, device=self._device, dtype=dtype or torch.float32)

    def agreement(self, other: OrthogonalGauge | SignedPermutation) -> float:
        """Mean over coordinates of the cosine between where the two lead it: ``tr(R^T S) / d``.

        1 for the same gauge, about 0 for unrelated ones.
        """
        matrix = self._other(other)
        return float((self._matrix * matrix).sum() / self.dim) if self.dim else 1.0

    def distance(self, other: OrthogonalGauge | SignedPermutation) -> float:
        """Relative error ``|R - S| / |S|`` in the Frobenius norm: 0 to 2, about 1.4 at random."""
        matrix = self._other(other)
        return float(np.linalg.norm(self._matrix - matrix) / max(self.dim, 1) ** 0.5)

    def _other(self, other: OrthogonalGauge | SignedPermutation) -> npt.NDArray[np.float64]:
        matrix = _matrix_of(other)
        if matrix is None:
            raise TypeError(f"expected a gauge, got {type(other).__name__}")
        self._require_same_dim(other.dim)
        return matrix

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OrthogonalGauge):
            return NotImplemented
        return np.array_equal(self._matrix, other._matrix)

    def __hash__(self) -> int:
        return hash((self._matrix + 0.0).tobytes())  # + 0.0: the two zeros are equal

    def __repr__(self) -> str:
        where = "" if self._device is None else f", device={str(self._device)!r}"
        return f"OrthogonalGauge(dim={self.dim}{where})"

    # -- devices and files ----------------------------------------------------------------

    def to(self, device: Any) -> OrthogonalGauge:
        """The same gauge for tensors on a torch device; `None` for NumPy arrays."""
        if device is not None:
            import torch

            device = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0"
        return self._made(self._matrix, self.metadata)._on(device)

    def save(self, path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
        """Write the gauge as a safetensors file: matrix float64 [d, d], and a header.

        The header holds the format version, the direction, the group and the gauge's own
        metadata, overlaid with `metadata`. An existing file is replaced, all or nothing.
        """
        header = {
            **self.metadata,
            **(metadata or {}),
            "direction": _DIRECTION,
            "group": self.group,
            "dim": str(self.dim),
        }
        tensor_file.write(path, "gauge", {"matrix": self._matrix}, header)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> OrthogonalGauge:
        """Read a gauge that `save` wrote, with its metadata.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is no orthogonal gauge, is damaged, or was written with another direction.
        """
        tensors, header = tensor_file.read(path, "gauge", ("matrix",))
        if header.pop("direction", None) != _DIRECTION:
            raise ValueError(f"{os.fspath(path)} maps in another direction than bmatch's gauges do")
        for derived in ("group", "dim"):
            header.pop(derived, None)
        try:
            return cls(tensors["matrix"], header)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)} holds no valid gauge: {error}") from None

    def __reduce__(self) -> Any:
        return _rebuilt, (self._matrix, self.metadata, self._device)

    @classmethod
    def _made(
        cls, matrix: npt.NDArray[np.float64], metadata: Mapping[str, str] | None = None
    ) -> OrthogonalGauge:
        """Of a matrix that is known to be orthogonal."""
        gauge = cls.__new__(cls)
        gauge._matrix = matrix
        matrix.flags.writeable = False
        gauge.metadata = dict(metadata or {})
        gauge._device = None
        return gauge

    def _on(self, device: Any) -> OrthogonalGauge:
        """Sets the device of a gauge just made."""
        self._device = device
        return self


def _rebuilt(matrix: npt.NDArray[np.float64], metadata: dict[str, str], device: Any) -> Any:
    return OrthogonalGauge(matrix, metadata)._on(device)


def _matrix_of(gauge: object) -> npt.NDArray[np.float64] | None:
    if isinstance(gauge, OrthogonalGauge):
        return gauge._matrix
    if isinstance(gauge, SignedPermutation):
        matrix: npt.NDArray[np.float64] = gauge.to(None).matrix()
        return matrix
    return None
