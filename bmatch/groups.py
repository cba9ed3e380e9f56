"""The gauge groups by name, and what their elements consist of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from bmatch.arrays import AnyArray, as_array

Group: TypeAlias = Literal["signed_permutation", "permutation", "permutation_global_sign"]
"""B_d (RMSNorm), S_d, and S_d x {+1, -1} (LayerNorm)."""

AnyGroup: TypeAlias = Group | Literal["orthogonal"]
"""And O(d), or the orthogonal maps that fix the ones vector up to sign (LayerNorm): the whole gauge
where every norm's gains are flat, and no gauge elsewhere."""

ORDER: tuple[AnyGroup, ...] = (
    *("permutation", "permutation_global_sign", "signed_permutation", "orthogonal"),
)
"""As sets of matrices each holds those before it."""


class Composable(Protocol):
    """What gauges of all kinds have in common."""

    metadata: dict[str, str]

    def __matmul__(self, other: Any, /) -> Any:
        """`other` acts first."""


class Gauge(Composable, Protocol):
    """What gauges of one space have in common, whatever their group."""

    @property
    def dim(self) -> int:
        """Number of coordinates."""

    @property
    def group(self) -> AnyGroup:
        """The smallest of the groups by name that holds it."""

    def apply(self, x: AnyArray, dim: int = -1) -> AnyArray:
        """Map `x` from source to target coordinates along one of its dimensions."""

    def apply_permutation(self, x: AnyArray, dim: int = -1) -> AnyArray:
        """Map `x` as gains are mapped: scales of single coordinates, without a sign."""

    def inverse(self) -> Any:
        """The gauge that maps back."""

    def to(self, device: Any) -> Any:
        """The same gauge on a torch device; `None` for NumPy arrays."""

    def save(self, path: Any, metadata: Mapping[str, str] | None = None) -> None:
        """Write it to a file."""


AnyGauge = TypeVar("AnyGauge", bound=Composable)


def require_group(group: str) -> None:
    """Refuse what is not the name of a group."""
    if group not in get_args(Group):
        other = " (for that: OrthogonalGauge, match_orthogonal)" if group == "orthogonal" else ""
        raise ValueError(f"group must be one of {', '.join(get_args(Group))}; got {group!r}{other}")


def smaller(one: Group, other: Group) -> Group:
    """The one of two groups that the other holds: each of the three holds those before it."""
    return min(one, other, key=ORDER.index)


def require_rotation(gauge: Gauge, own: Group, model_type: str) -> None:
    """Refuse an orthogonal gauge for a stream on which its group cannot act, whatever the gains.

    Raises
    ------
    ValueError
        If the stream's signs are fixed, or its norms subtract the mean over coordinates and the
        gauge moves it.
    """
    if own == "permutation":
        raise ValueError(
            f"the gauge is orthogonal, and the group of {model_type}'s residual stream is {own}: "
            "rotations change its function"
        )
    if own == "permutation_global_sign" and not gauge.fixes_ones:  # type: ignore[attr-defined]
        raise ValueError(
            f"the gauge moves the ones vector, and the norms of {model_type} subtract the mean "
            "over coordinates: of the orthogonal maps those that fix it, or turn it round, keep "
            "its function"
        )


def as_permutation(perm: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """A permutation of 0..d-1 as a new, read-only int64 [d].

    Raises
    ------
    ValueError
        If it is none.
    """
    array = as_array(perm)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"perm must be a 1-D array of integers, got {array.dtype} of shape {array.shape}"
        )
    dim = len(array)
    if not np.array_equal(np.sort(array), np.arange(dim)):
        raise ValueError(f"perm is not a permutation of 0..{dim - 1}: {_why_no_permutation(array)}")
    return _frozen(array.astype(np.int64))


def as_signs(sign: npt.ArrayLike, dim: int) -> npt.NDArray[np.int8]:
    """One sign for each of `dim` coordinates as a new, read-only int8 [d].

    Raises
    ------
    ValueError
        If there are more or fewer, or others than +1 and -1.
    """
    array = as_array(sign)
    if array.shape != (dim,):
        raise ValueError(
            f"sign must have one entry for each of the {dim} entries of perm, got shape "
            f"{array.shape}"
        )
    if array.dtype.kind not in "iuf":
        raise ValueError(f"sign must be +1 or -1, got values of type {array.dtype}")
    if not np.all(np.abs(array) == 1):
        bad = int(np.flatnonzero(np.abs(array) != 1)[0])
        raise ValueError(f"sign must be +1 or -1, got {array[bad]} at coordinate {bad}")
    return _frozen(array.astype(np.int8))


def as_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """What a gauge tells of itself, as a new dict.

    Raises
    ------
    TypeError
        If it holds anything but strings.
    """
    copied = dict(metadata or {})
    for key, value in copied.items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise TypeError(f"metadata must map str to str, got {key!r}: {value!r}")
    return copied


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array = np.array(array)
    array.flags.writeable = False
    return array


def _why_no_permutation(perm: npt.NDArray[Any]) -> str:
    dim = len(perm)
    outside = np.flatnonzero((perm < 0) | (perm >= dim))
    if len(outside):
        return f"entry {perm[outside[0]]} at position {outside[0]} is out of range"
    doubled = int(np.flatnonzero(np.bincount(perm) > 1)[0])
    return f"{doubled} occurs more than once"
