"""What a claim says of coordinates by number, and how it is carried to another gauge."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from bmatch.arrays import as_array
from bmatch.gauge import SignedPermutation
from bmatch.transport.neurons import neurons

Way: TypeAlias = Literal["raw", "permutation", "signed"]
"""How a claim is carried: not at all, by indices alone, by indices and signs."""

WAYS: tuple[Way, ...] = get_args(Way)


class Claim:
    """Items that name coordinates: a set, pairs with signs, tuples, a list with weights.

    Parameters
    ----------
    index : int [n] or [n, m]
        Coordinates of each item. Where an item has several, their order says nothing.
    sign : +1 and -1 [n], optional
    weight : float [n], optional
        A score that belongs to the item: an attribution, the effect of an ablation.
    signed : bool
        Whether sign and weight turn with the coordinates, as those of activations and gradients
        do; of an item with several coordinates with each of them. False for gradient x activation
        and effects of ablations, which are permuted and never signed.
    site : sequence of n, optional
        Where each item is: a layer, a site, a name. Not changed by a gauge.

    Attributes
    ----------
    index : int64 [n, m]
    sign : int8 [n] or None
    weight : float64 [n] or None
    signed : bool
    site : tuple of n, or None

    Raises
    ------
    TypeError
        If the coordinates are no integers.
    ValueError
        If lengths differ, there is no item, or signs are not +1 and -1.

    Examples
    --------
    The ten coordinates of largest mean activation as a set, and with signs:
    ``Claim(order[:10])`` and ``Claim(order[:10], sign=np.sign(mean[order[:10]]))``.
    """

    __slots__ = ("index", "sign", "signed", "site", "weight")

    def __init__(
        self,
        index: npt.ArrayLike,
        sign: npt.ArrayLike | None = None,
        weight: npt.ArrayLike | None = None,
        *,
        signed: bool = True,
        site: Sequence[Hashable] | None = None,
    ) -> None:
        numbers = as_array(index)
        if numbers.dtype.kind not in "iu":
            raise TypeError(
                f"a claim's coordinates must be integers, got {numbers.dtype}: of scores of all "
                "coordinates, say which are chosen"
            )
        if numbers.ndim not in (1, 2) or not numbers.size:
            raise ValueError(
                f"a claim's coordinates must be [n] or [n, m] and not empty, got {numbers.shape}"
            )
        self.index = np.sort(numbers.reshape(len(numbers), -1).astype(np.int64), axis=1)
        self.sign = None
        if sign is not None:
            signs = _column("sign", sign, len(numbers))
            if not np.all(np.abs(signs) == 1):
                raise ValueError("a claim's signs must be +1 or -1")
            self.sign = signs.astype(np.int8)
        self.weight = (
            None if weight is None else _column("weight", weight, len(numbers)).astype(np.float64)
        )
        self.signed = signed
        if site is not None and len(site) != len(numbers):
            raise ValueError(f"a claim of {len(numbers)} items has {len(site)} sites")
        self.site = None if site is None else tuple(site)

    @classmethod
    def of(cls, result: Any) -> Claim:
        """What a function of a model returned: a claim, coordinates, or coordinates and signs."""
        if isinstance(result, cls):
            return result
        if isinstance(result, tuple) and len(result) == 2:
            return cls(*result)
        return cls(result)

    def __len__(self) -> int:
        """The number of items."""
        return len(self.index)

    def carried(self, gauge: SignedPermutation, way: Way) -> Claim:
        """The claim in the coordinates that a gauge leads to, in one of the ways."""
        if way not in WAYS:
            raise ValueError(f"way must be one of {', '.join(WAYS)}; got {way!r}")
        if way == "raw":
            return self
        moved = neurons(self.index, gauge)  # [n, m]
        turn = np.ones(len(self), np.int8)
        if way == "signed" and self.signed:
            turn = gauge.to(None).sign[moved].prod(axis=1).astype(np.int8)
        return Claim(
            moved,
            None if self.sign is None else self.sign * turn,
            None if self.weight is None else self.weight * turn,
            signed=self.signed,
            site=self.site,
        )

    def found_in(self, other: Claim, rtol: float) -> npt.NDArray[np.bool_]:
        """Which items another claim has too: same site, coordinates and sign, bool [n].

        Weights are the same if they differ by at most `rtol` of the other's largest.
        """
        if (self.sign is None, self.weight is None) != (other.sign is None, other.weight is None):
            raise ValueError("two claims are compared of which one has signs or weights only")
        scale = 0.0 if other.weight is None else float(np.abs(other.weight).max(initial=0.0))
        known: dict[Hashable, list[float]] = {}
        for key, weight in other.items():
            known.setdefault(key, []).append(weight)
        return np.array(
            [
                any(abs(weight - w) <= rtol * scale for w in known.get(key, ()))
                for key, weight in self.items()
            ],
            np.bool_,
        )

    def items(self) -> list[tuple[Hashable, float]]:
        """What each item names (site, coordinates, sign), and its weight: 0 where there is none."""
        rows = self.index.tolist()
        signs = [None] * len(self) if self.sign is None else self.sign.tolist()
        weights = [0.0] * len(self) if self.weight is None else self.weight.tolist()
        sites = [None] * len(self) if self.site is None else self.site
        return [
            ((site, tuple(row), sign), weight)
            for site, row, sign, weight in zip(sites, rows, signs, weights, strict=True)
        ]


def _column(name: str, values: npt.ArrayLike, length: int) -> npt.NDArray[Any]:
    column = as_array(values)
    if column.shape != (length,) or column.dtype.kind not in "iuf":
        raise ValueError(
            f"a claim of {length} items needs as many numbers for {name}, got {column.dtype} of "
            f"shape {column.shape}"
        )
    return column
