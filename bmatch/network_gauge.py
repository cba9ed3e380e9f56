"""A gauge of a whole network: one element for each of its spaces, and one file for all.

Spaces may lie in units of others: the neurons of an expert. The outer one acts first, so an inner
element is that of the unit where it ends: the element of the neurons of expert 3 acts on what the
experts' element has put there. Compositions and inverses heed this, and are exact.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from bmatch.architecture.nesting import Nesting, moves_of
from bmatch.architecture.rules import RESIDUAL
from bmatch.architecture.spaces import Axes
from bmatch.files import tensor_file
from bmatch.gauge import DIRECTION, SignedPermutation, turned
from bmatch.groups import smaller


class NetworkGauge(Mapping[str, SignedPermutation]):
    """Where each unit of each space comes from, and with which sign; immutable and hashable.

    Parameters
    ----------
    elements : mapping of str to SignedPermutation
        By the names of spaces. Spaces that are left out stay as they are.
    nesting : Nesting, optional
        Which of the spaces lie in units of others (`Nesting.of` tells). Default: none does.
    metadata : mapping of str to str, optional
        Where the gauge comes from; saved with it, no part of equality.

    Raises
    ------
    ValueError
        If a unit that moves holds a space that has no element, while its siblings have one.

    Examples
    --------
    ``g = NetworkGauge.random(bmatch.architecture.derive(model), seed=0)`` moves all that may move,
    and ``(g.inverse() @ g).is_identity``.
    """

    def __init__(
        self,
        elements: Mapping[str, SignedPermutation],
        nesting: Nesting | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self._elements = MappingProxyType({name: g.to(None) for name, g in elements.items()})
        whole = nesting or Nesting({})
        self.nesting = whole.restricted(set(elements))
        for outer, orbits in whole.orbits.items():
            for siblings in orbits if outer in elements else ():
                missing = [name for name in siblings if name not in elements]
                if 0 < len(missing) < len(siblings):
                    raise ValueError(
                        f"{missing[0]} has no element, and its sibling in another unit has one"
                    )
        self.metadata = dict(metadata or {})

    # -- construction ---------------------------------------------------------------------

    @classmethod
    def identity(cls, axes: Axes) -> NetworkGauge:
        """The gauge of a model's spaces that changes nothing."""
        elements = {space.name: SignedPermutation.identity(space.size) for space in axes.spaces}
        return cls(elements, Nesting.of(axes))

    @classmethod
    def random(cls, axes: Axes, seed: int) -> NetworkGauge:
        """A uniformly random element of every space's group; the same for the same seed."""
        generator = np.random.default_rng(seed)
        elements = {
            space.name: SignedPermutation.random(space.size, space.group, seed=generator)
            for space in axes.spaces
        }
        return cls(elements, Nesting.of(axes))

    # -- attributes -----------------------------------------------------------------------

    def __getitem__(self, name: str) -> SignedPermutation:
        return self._elements[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._elements)

    def __len__(self) -> int:
        return len(self._elements)

    @property
    def residual(self) -> SignedPermutation | None:
        """The element of the residual stream, which carries steering vectors and the like."""
        return self._elements.get(RESIDUAL)

    @property
    def dim(self) -> int:
        """Number of units of all its spaces."""
        return sum(g.dim for g in self._elements.values())

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return all(g == SignedPermutation.identity(g.dim) for g in self._elements.values())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NetworkGauge):
            return NotImplemented
        return dict(self._elements) == dict(other._elements)

    def __hash__(self) -> int:
        return hash(frozenset(self._elements.items()))

    def __repr__(self) -> str:
        return f"NetworkGauge(spaces={len(self)}, units={self.dim})"

    # -- group ----------------------------------------------------------------------------

    @cached_property
    def _perms(self) -> dict[str, Any]:
        return {name: g.perm for name, g in self._elements.items()}

    def inverse(self) -> NetworkGauge:
        """The gauge that maps target coordinates back; in its metadata they are the source."""
        elements = {
            self.nesting.source(name, self._perms): g.inverse()
            for name, g in self._elements.items()
        }
        ordered = {name: elements[name] for name in self}
        return NetworkGauge(ordered, self.nesting, turned(self.metadata))

    def __matmul__(self, other: NetworkGauge) -> NetworkGauge:
        """``(g @ h).apply(x) = g.apply(h.apply(x))``: `other` acts first.

        Raises
        ------
        ValueError
            If they are gauges of different spaces, or of other sizes of them.
        """
        if not isinstance(other, NetworkGauge):
            return NotImplemented
        if self.keys() != other.keys() or self.nesting != other.nesting:
            odd = sorted(self.keys() ^ other.keys())
            raise ValueError(
                "gauges of different spaces cannot be composed"
                + (f": {odd[0]} is in one of them alone" if odd else "")
            )
        elements = {
            name: g @ other[self.nesting.source(name, self._perms)]
            for name, g in self._elements.items()
        }
        return NetworkGauge(elements, self.nesting)

    def agreement(self, other: NetworkGauge) -> dict[str, float]:
        """For each space of both, the fraction of units whose index and sign are the same."""
        return {name: g.agreement(other[name]) for name, g in self.items() if name in other}

    # -- action ---------------------------------------------------------------------------

    def require(self, axes: Axes) -> None:
        """Refuse a gauge under which a model of these axes would compute something else.

        Raises
        ------
        ValueError
            If it has a space that the model has not, of another size or with more than the
            space's group.
        """
        spaces = {space.name: space for space in axes.spaces}
        for name, g in self.items():
            space = spaces.get(name)
            if space is None:
                raise ValueError(f"the model has no space {name}, on which the gauge acts")
            if space.size != g.dim:
                raise ValueError(
                    f"the gauge acts on {g.dim} units of {name}, and the model has {space.size}"
                )
            if smaller(g.group, space.group) != g.group:
                raise ValueError(
                    f"the gauge is a {g.group} of {name}, whose group is {space.group}: it would "
                    "change the model's function"
                )

    def on(self, axes: Axes) -> Callable[[str, Any], Any]:
        """What the gauge does to the tensors of a model.

        Returns
        -------
        callable
            Takes a tensor's name and the torch tensor, returns it in target coordinates: a new one
            of its dtype, bit for bit invertible, or the same where no space is carried.

        Raises
        ------
        ValueError
            As `require`.
        """
        self.require(axes)
        moves = moves_of(axes, self.nesting)

        def carry(name: str, tensor: Any) -> Any:
            own = [(space, m) for space, m in moves.get(name, ()) if space.name in self]
            if own:
                tensor = tensor.clone()
            for space, member in own:
                member.carry(tensor, self[space.name])
            return tensor

        return carry

    # -- files ----------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
        """Write one safetensors file: perm int64 and sign int8 of each space, under its name.

        Those of the residual stream lie where a gauge of that alone has them: it can be loaded as
        `SignedPermutation`. An existing file is replaced, all or nothing.
        """
        tensors = {}
        for name, g in self.items():
            prefix = "" if name == RESIDUAL else f"{name}/"
            tensors[f"{prefix}perm"], tensors[f"{prefix}sign"] = g.perm, g.sign
        header = {**self.metadata, **(metadata or {}), "direction": DIRECTION}
        if self.residual is not None:
            header |= {"group": self.residual.group, "dim": str(self.residual.dim)}
        if self.nesting.orbits:
            header["nesting"] = json.dumps(self.nesting.orbits)
        tensor_file.write(path, "gauge", tensors, header)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> NetworkGauge:
        """Read what `save` wrote, or a gauge of the residual stream alone.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is no gauge, is damaged, or was written with another direction.
        """
        tensors, header = tensor_file.read(path, "gauge")
        name = os.fspath(path)
        if header.pop("direction", None) != DIRECTION:
            raise ValueError(f"{name} maps in another direction than bmatch's gauges do")
        for derived in ("group", "dim"):
            header.pop(derived, None)
        try:
            listed = json.loads(header.pop("nesting", "{}"))
            orbits = {o: tuple(tuple(names) for names in found) for o, found in listed.items()}
            elements = {
                key.removesuffix("perm").removesuffix("/") or RESIDUAL: SignedPermutation(
                    perm, tensors[key.removesuffix("perm") + "sign"]
                )
                for key, perm in tensors.items()
                if key == "perm" or key.endswith("/perm")
            }
            if not elements:
                raise ValueError("it has no spaces")
            return cls(elements, Nesting(orbits), header)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"{name} holds no valid gauge: {error}") from None
