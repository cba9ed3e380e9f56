"""Signed permutations: the gauge group of an RMSNorm residual stream, and its subgroups.

The hyperoctahedral group B_d = S_d x| {+1, -1}^d acts on the d coordinates of a residual
stream. RMSNorm is unchanged by all of it (its gains are permuted along), LayerNorm only by
permutations and one global sign.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial, reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from bmatch.arrays import NOT_MOVED, AnyArray, as_array, is_tensor
from bmatch.files import tensor_file
from bmatch.groups import AnyGauge, Group, as_metadata, as_permutation, as_signs, require_group
from bmatch.taking import Taken, can_be_taken

DIRECTION = (
    "apply(x)[..., i] = sign[i] * x[..., perm[i]]; x in source, result in target coordinates"
)
"""What the files of gauges say of theirs."""


class SignedPermutation:
    """A gauge: where each target coordinate comes from, and with which sign.

    ``gauge.apply(x)[..., i] = sign[i] * x[..., perm[i]]`` maps source coordinates to target
    coordinates; as a matrix ``G[i, perm[i]] = sign[i]`` and ``apply(x) = x @ G.T``. Gauges
    compose like matrices: ``(g @ h).apply(x) = g.apply(h.apply(x))``. Immutable and hashable.

    Parameters
    ----------
    perm : int [d]
        A permutation of 0..d-1: the source coordinate of each target coordinate.
    sign : int [d], optional
        +1 or -1 for each target coordinate. Default: all +1.
    metadata : mapping of str to str, optional
        Where the gauge comes from; saved with it, no part of equality.

    Attributes
    ----------
    perm : int64 [d]
    sign : int8 [d]
        NumPy arrays; tensors on their device, if `perm` was a tensor or after `to`.
    metadata : dict of str to str

    Raises
    ------
    ValueError
        If `perm` is not a permutation, `sign` is not +1 and -1, or their lengths differ.
    TypeError
        If `metadata` holds anything but strings.

    Examples
    --------
    >>> import numpy as np, bmatch
    >>> g = bmatch.SignedPermutation([2, 0, 1], [1, -1, 1])
    >>> g.apply(np.array([10.0, 20.0, 30.0]))
    array([ 30., -10.,  20.])
    >>> (g.inverse() @ g) == bmatch.SignedPermutation.identity(3)
    True
    """

    __slots__ = ("_device", "_perm", "_sign", "metadata")
    __array_ufunc__ = None  # `gauge @ array` is refused here, not guessed at by NumPy

    def __init__(
        self,
        perm: npt.ArrayLike,
        sign: npt.ArrayLike | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self._perm = as_permutation(perm)
        dim = len(self._perm)
        self._sign = as_signs(np.ones(dim, np.int8) if sign is None else sign, dim)
        self.metadata = as_metadata(metadata)
        self._device: Any = perm.device if is_tensor(perm) else None  # type: ignore[union-attr]

    # -- construction ---------------------------------------------------------------------

    @classmethod
    def identity(cls, dim: int) -> SignedPermutation:
        """The gauge of dimension `dim` that changes nothing."""
        if dim < 0:
            raise ValueError(f"dim must be at least 0, got {dim}")
        return cls(np.arange(dim))

    @classmethod
    def random(
        cls,
        dim: int,
        group: Group = "signed_permutation",
        *,
        seed: int | np.random.Generator,
    ) -> SignedPermutation:
        """A uniformly random gauge of the group; the same one for the same integer `seed`.

        Raises
        ------
        ValueError
            If `group` is not one of the three.
        """
        require_group(group)
        generator = np.random.default_rng(seed)
        perm = generator.permutation(dim)
        count = {"signed_permutation": dim, "permutation_global_sign": 1, "permutation": 0}[group]
        drawn = generator.choice(np.array([-1, 1], np.int8), count)
        sign = np.ones(dim, np.int8) if group == "permutation" else np.broadcast_to(drawn, dim)
        return cls(perm, sign)

    @classmethod
    def from_matrix(cls, matrix: npt.ArrayLike) -> SignedPermutation:
        """The gauge with ``G[i, perm[i]] = sign[i]`` for a signed permutation matrix ``[d, d]``.

        Raises
        ------
        ValueError
            If there is not exactly one nonzero entry, +1 or -1, in each row and column.
        """
        host = as_array(matrix)
        if host.ndim != 2 or host.shape[0] != host.shape[1]:
            raise ValueError(f"matrix must be square, got shape {host.shape}")
        nonzero = host != 0
        if not (
            np.all(nonzero.sum(0) == 1)
            and np.all(nonzero.sum(1) == 1)
            and np.all(np.abs(host[nonzero]) == 1)
        ):
            raise ValueError(
                "matrix is not a signed permutation: every row and every column needs exactly one "
                "nonzero entry, +1 or -1"
            )
        perm = np.argmax(nonzero, axis=1) if len(host) else np.empty(0, np.int64)
        sign = host[np.arange(len(host)), perm].astype(np.int8)
        return cls(perm, sign)._on(matrix.device if is_tensor(matrix) else None)  # type: ignore[union-attr]

    # -- attributes -----------------------------------------------------------------------

    @property
    def perm(self) -> Any:
        """Source coordinate of each target coordinate, int64 [d]."""
        return self._given(self._perm)

    @property
    def sign(self) -> Any:
        """Sign of each target coordinate, int8 [d]."""
        return self._given(self._sign)

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return len(self._perm)

    @property
    def group(self) -> Group:
        """The smallest of the three groups that holds this gauge."""
        if np.all(self._sign == 1):
            return "permutation"
        if np.all(self._sign == -1):
            return "permutation_global_sign"
        return "signed_permutation"

    # -- action ---------------------------------------------------------------------------

    def apply(self, x: AnyArray, dim: int = -1) -> AnyArray:
        """Map `x` from source to target coordinates along one of its dimensions.

        Parameters
        ----------
        x : array or tensor, d entries along `dim`
            Left as it is. A tensor must be on the device of the gauge (see `to`); a gauge of
            NumPy arrays counts as being on the CPU.
        dim : int
            The dimension that carries the coordinates.

        Returns
        -------
        array or tensor
            New, of the shape, dtype and device of `x`. Bit for bit invertible.

        Raises
        ------
        ValueError
            If `x` has another number of coordinates or is on another device.
        TypeError
            If a sign would have to be given to booleans or unsigned integers.
        """
        if not (is_tensor(x) or isinstance(x, Taken)):
            x = np.asarray(x)  # type: ignore[assignment]
        if not -x.ndim <= dim < x.ndim or x.shape[dim] != self.dim:
            raise ValueError(
                f"x of shape {tuple(x.shape)} has no {self.dim} coordinates along dimension {dim}, "
                "and the gauge acts on that many"
            )
        signed = not np.all(self._sign == 1)
        shape = [1] * x.ndim
        shape[dim] = self.dim
        if is_tensor(x) or isinstance(x, Taken):
            tensor: AnyArray = self._apply_tensor(x, dim % x.ndim, shape if signed else None)
            return tensor
        y: npt.NDArray[Any] = np.take(x, self._perm, axis=dim)
        if signed:
            if y.dtype.kind in "bu":
                raise TypeError(
                    f"x is {y.dtype}, which holds no signs: convert it to a signed type"
                )
            y *= self._sign.reshape(shape).astype(y.dtype)
        return y  # type: ignore[return-value]

    def _apply_tensor(self, x: Any, dim: int, sign_shape: list[int] | None) -> Any:
        import torch

        here = torch.device("cpu") if self._device is None else self._device
        if x.device != here:
            raise ValueError(
                f"x is on {x.device} and the gauge on {here}: use gauge.to({str(x.device)!r}); "
                f"{NOT_MOVED}"
            )
        if sign_shape is not None and not (x.dtype.is_signed or x.dtype.is_complex):
            raise TypeError(f"x is {x.dtype}, which holds no signs: convert it to a signed type")
        turned = None if sign_shape is None else self._sign < 0
        if isinstance(x, Taken):
            return x.along(dim, self._perm, turned)
        if can_be_taken(x):
            return Taken(x).along(dim, self._perm, turned).made()
        perm = torch.as_tensor(self._perm.copy(), device=here)
        if sign_shape is None:
            return x.index_select(dim, perm)
        sign = torch.as_tensor(self._sign.reshape(sign_shape).copy(), device=here)
        if x.dtype.is_floating_point and not x.requires_grad:
            # The bit of the sign: some types of 8 bits have no product.
            bits = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[x.itemsize]
            moved = x.view(bits).index_select(dim, perm)
            return moved.bitwise_xor_((sign < 0).to(bits) << 8 * x.itemsize - 1).view(x.dtype)
        return x.index_select(dim, perm) * sign.to(x.dtype)

    def apply_permutation(self, x: AnyArray, dim: int = -1) -> AnyArray:
        """Map `x` by the permutation alone, as norm gains and second moments are mapped."""
        return SignedPermutation(self._perm)._on(self._device).apply(x, dim)

    # -- group ----------------------------------------------------------------------------

    def inverse(self) -> SignedPermutation:
        """The gauge that maps target coordinates back; in its metadata they are the source."""
        perm = np.empty_like(self._perm)
        perm[self._perm] = np.arange(self.dim)
        return SignedPermutation(perm, self._sign[perm], turned(self.metadata))._on(self._device)

    def __matmul__(self, other: SignedPermutation) -> SignedPermutation:
        """``(g @ h).apply(x) = g.apply(h.apply(x))``: `other` acts first."""
        if not isinstance(other, SignedPermutation):
            return NotImplemented
        if other.dim != self.dim:
            raise ValueError(f"gauges of {self.dim} and {other.dim} coordinates cannot be composed")
        return SignedPermutation(other._perm[self._perm], self._sign * other._sign[self._perm])._on(
            self._device
        )

    def matrix(self, dtype: Any = None) -> Any:
        """``G[i, perm[i]] = sign[i]``, ``[d, d]``; float64, or float32 as a tensor, by default."""
        dense = np.zeros((self.dim, self.dim))
        dense[np.arange(self.dim), self._perm] = self._sign
        if self._device is None:
            return dense if dtype is None else dense.astype(dtype)
        import torch

        return torch.as_tensor(dense, device=self._device, dtype=dtype or torch.float32)

    def agreement(self, other: SignedPermutation) -> float:
        """Fraction of coordinates whose index and sign are the same in both: "recovered".

        Raises
        ------
        ValueError
            If the gauges act on different numbers of coordinates.
        """
        if other.dim != self.dim:
            raise ValueError(f"gauges of {self.dim} and {other.dim} coordinates do not compare")
        if self.dim == 0:
            return 1.0
        return float(np.mean((self._perm == other._perm) & (self._sign == other._sign)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SignedPermutation):
            return NotImplemented
        return np.array_equal(self._perm, other._perm) and np.array_equal(self._sign, other._sign)

    def __hash__(self) -> int:
        return hash((self._perm.tobytes(), self._sign.tobytes()))

    def __repr__(self) -> str:
        if self.dim <= 8:
            entries = f"perm={self._perm.tolist()}, sign={self._sign.tolist()}"
        else:
            flipped = int(np.count_nonzero(self._sign == -1))
            moved = int(np.count_nonzero(self._perm != np.arange(self.dim)))
            entries = f"dim={self.dim}, moved={moved}, flipped={flipped}"
        where = "" if self._device is None else f", device={str(self._device)!r}"
        return f"SignedPermutation({entries}{where})"

    # -- devices and files ----------------------------------------------------------------

    def to(self, device: Any) -> SignedPermutation:
        """The same gauge held as tensors on a torch device; `None` for NumPy arrays."""
        if device is not None:
            import torch

            device = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0"
        return SignedPermutation(self._perm, self._sign, self.metadata)._on(device)

    def save(self, path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
        """Write the gauge as a safetensors file: perm int64 [d], sign int8 [d], and a header.

        The header holds the format version, the direction, the group and the gauge's own
        metadata, overlaid with `metadata`. An existing file is replaced, all or nothing.
        """
        header = {
            **self.metadata,
            **(metadata or {}),
            "direction": DIRECTION,
            "group": self.group,
            "dim": str(self.dim),
        }
        tensor_file.write(path, "gauge", {"perm": self._perm, "sign": self._sign}, header)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SignedPermutation:
        """Read a gauge that `save` wrote, with its metadata.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is no gauge, is damaged, holds no signed permutation, or was written with
            another direction.
        """
        tensors, header = tensor_file.read(path, "gauge", ("perm", "sign"))
        if header.pop("direction", None) != DIRECTION:
            raise ValueError(f"{os.fspath(path)} maps in another direction than bmatch's gauges do")
        for derived in ("group", "dim"):
            header.pop(derived, None)
        try:
            return cls(tensors["perm"], tensors["sign"], header)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)} holds no valid gauge: {error}") from None

    def __reduce__(self) -> Any:
        rebuild = partial(SignedPermutation, metadata=self.metadata)
        return rebuild, (self.perm, self.sign)

    def _on(self, device: Any) -> SignedPermutation:
        """Sets the device of a gauge just made."""
        self._device = device
        return self

    def _given(self, array: npt.NDArray[Any]) -> Any:
        if self._device is None:
            return array
        import torch

        return torch.as_tensor(array.copy(), device=self._device)


def compose(gauges: Iterable[AnyGauge]) -> AnyGauge:
    """The product ``g3 @ g2 @ g1`` of ``[g3, g2, g1]``: the last one acts first.

    Its metadata name the source of the last and the target of the first.

    Raises
    ------
    ValueError
        If there are no gauges, or they act on different numbers of coordinates.
    """
    chain = list(gauges)
    if not chain:
        raise ValueError("compose needs at least one gauge")
    product: AnyGauge = reduce(lambda left, right: left @ right, chain)
    product.metadata.update(_end(chain[-1].metadata, "source"), **_end(chain[0].metadata, "target"))
    return product


def _end(metadata: Mapping[str, str], role: str, new_role: str | None = None) -> dict[str, str]:
    """What metadata tell of the source or the target, perhaps under the other's name."""
    return {
        f"{new_role or role}{suffix}": metadata[f"{role}{suffix}"]
        for suffix in ("", "_sha256")
        if f"{role}{suffix}" in metadata
    }


def turned(metadata: Mapping[str, str]) -> dict[str, str]:
    """What an inverse's metadata keep: the ends of a gauge, each in the other's place."""
    return _end(metadata, "source", "target") | _end(metadata, "target", "source")
