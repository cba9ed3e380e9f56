"""Labels: which atoms move the entries of a tensor, and which signs flip them.

Labels lie on storages, not on tensors: views of all kinds then need no rule at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from bmatch.architecture.constraints import NONE, WILD, Axis, Constraints
from bmatch.architecture.forms import Ids

MOST_ROWS = 64
"""Of a matrix whose rows have axes of their own: there are no more experts in a tiny model."""


@dataclass(frozen=True)
class Label:
    """The label of a tensor of `shape`.

    Attributes
    ----------
    shape : tuple of int
    atoms : tuple of int64 arrays
        Components: each broadcasts to the shape and names an atom for every entry.
    signs : tuple of int64 arrays
        Parts: each broadcasts to the shape; an entry's sign is the sum of the forms of all parts.
    """

    shape: tuple[int, ...]
    atoms: tuple[Ids, ...] = ()
    signs: tuple[Ids, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.atoms or self.signs)

    def reshaped(self, shape: Sequence[int], place: Sequence[int]) -> Label:
        """With the axes at `place` of a larger shape, the others of size 1."""

        def moved(array: Ids) -> Ids:
            sizes = [1] * len(shape)
            for size, axis in zip(array.shape, place, strict=True):
                sizes[axis] = size
            order = np.argsort(np.asarray(place, np.int64), kind="stable")
            return array.transpose(order).reshape(sizes)

        return Label(tuple(shape), tuple(map(moved, self.atoms)), tuple(map(moved, self.signs)))


def compact(array: Ids) -> Ids:
    """With size 1 along every axis along which it is constant, but for entries that are WILD."""
    for axis, size in enumerate(array.shape):
        if size > 1:
            first = array[(slice(None),) * axis + (slice(0, 1),)]
            if array.strides[axis] != 0:
                lane = array[(0,) * axis + (slice(None),) + (0,) * (array.ndim - axis - 1)]
                known = lane[lane >= 0]
                if known.size and (known != known[0]).any():  # most that vary do so here
                    continue
                if not (array == first).all():
                    first = array.max(axis=axis, keepdims=True)
                    if not ((array == first) | (array < 0)).all():
                        continue
            array = first
    return array


def extent(array: Ids) -> frozenset[int]:
    """The axes along which a compact array varies."""
    return frozenset(axis for axis, size in enumerate(array.shape) if size > 1)


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor lies in one storage by strides: no sparse, and no nested one."""
    return tensor.layout == torch.strided and not tensor.is_nested


@dataclass
class _Held:
    """Labels of one storage, entry by entry, for elements of one size."""

    storage: torch.UntypedStorage  # kept alive: addresses are keys
    length: int
    atoms: list[torch.Tensor] = field(default_factory=list)
    signs: list[torch.Tensor] = field(default_factory=list)


class Labels:
    """The labels of all storages of a run."""

    def __init__(self, constraints: Constraints) -> None:
        self.constraints = constraints
        self._held: dict[tuple[int, int], _Held] = {}
        self._blank: dict[int, torch.UntypedStorage] = {}
        self._targets: dict[int, tuple[torch.UntypedStorage, Ids]] = {}
        self._derived: dict[int, torch.UntypedStorage] = {}
        self._opaque: dict[int, torch.Tensor] = {}
        self._vectors: dict[int, str] = {}
        self._waiting: dict[tuple[int, int], tuple[str, torch.Tensor]] = {}
        self._sliced: set[str] = set()
        self.gains: set[str] = set()
        """Parameters with one axis that were multiplied with something."""

    def add_parameter(self, name: str, tensor: torch.Tensor) -> None:
        """A parameter: it is labelled when an operation first reads it."""
        self._waiting[self._key(tensor)] = name, tensor

    def mark_sliced(self, tensor: torch.Tensor) -> None:
        """Note that the run takes one row of a matrix that it has not read yet: experts' biases."""
        name, whole = self._waiting.get(self._key(tensor), ("", tensor))
        if name and tensor.shape == whole.shape and len(tensor) <= MOST_ROWS:
            self._sliced.add(name)

    @property
    def unread(self) -> list[str]:
        """Parameters that no operation has read."""
        return [name for name, _ in self._waiting.values()]

    def _start(self, name: str, tensor: torch.Tensor) -> None:
        """Atoms and signs for each axis of a parameter.

        From three axes on, or where the run takes single rows, the first counts slabs (experts),
        each with axes of its own.
        """
        c = self.constraints
        shape = tuple(tensor.shape)
        if len(shape) == 1:
            self._vectors[tensor.untyped_storage()._cdata] = name
        atoms: list[Ids] = []
        for dim, size in enumerate(shape):
            if size == 1:
                continue
            sizes = [size if axis == dim else 1 for axis in range(len(shape))]
            whole = len(shape) < 3 and name not in self._sliced
            if whole or dim == 0 or shape[0] == 1:
                atoms.append(c.new_axis(Axis(name, dim), size).reshape(sizes))
                continue
            slabs = [c.new_axis(Axis(name, dim, slab), size) for slab in range(shape[0])]
            sizes[0] = shape[0]
            atoms.append(np.stack(slabs).reshape(sizes))
            if shape[0] > 1:
                c.relate(np.concatenate(slabs), np.repeat(atoms[0].ravel(), size))
        signs = tuple(map(c.signs_of, atoms))
        self.write(tensor, Label(shape, tuple(atoms), signs))

    def _key(self, tensor: torch.Tensor) -> tuple[int, int]:
        return tensor.untyped_storage()._cdata, tensor.element_size()

    def read(self, tensor: torch.Tensor) -> Label:
        """The label of a tensor; empty if it has none."""
        if not is_plain(tensor):
            return Label(())
        if self._key(tensor) in self._waiting:
            self._start(*self._waiting.pop(self._key(tensor)))
        shape = tuple(tensor.shape)
        held = self._held.get(self._key(tensor))
        if held is None or tensor.numel() == 0:
            return Label(shape)

        def view(array: torch.Tensor) -> Ids:
            seen = array.as_strided(shape, tensor.stride(), tensor.storage_offset())
            return compact(seen.numpy())

        atoms = [view(array) for array in held.atoms]
        signs = [view(array) for array in held.signs]
        return Label(
            shape,
            tuple(array for array in atoms if (array > 0).any()),
            tuple(array for array in signs if (array > 0).any()),
        )

    def around(self, tensor: torch.Tensor) -> Ids | None:
        """The atoms beside a tensor in its storage; None if it is all of that, or has no label."""
        held = self._held.get(self._key(tensor))
        if held is None or tensor.numel() >= held.length:
            return None
        beside = torch.ones(held.length, dtype=torch.bool)
        beside.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).fill_(False)
        atoms = [slot[beside].numpy() for slot in held.atoms]
        found = np.unique(np.concatenate([*atoms, np.zeros(0, np.int64)]))
        return self.constraints.plain(found[found > 0])

    def write(self, tensor: torch.Tensor, label: Label) -> None:
        """Label a tensor, that is, the part of its storage that it shows."""
        held = self._held.get(self._key(tensor))
        if held is None:
            if not label:
                return
            storage = tensor.untyped_storage()
            held = _Held(storage, storage.nbytes() // tensor.element_size())
            self._held[self._key(tensor)] = held
        whole = tensor.numel() >= held.length
        if whole:
            held.atoms, held.signs = [], []
        self._fill(held, held.atoms, tensor, label.atoms, WILD, whole)
        # What the storage held without a label never flips; blank and zero entries match all.
        self._fill(held, held.signs, tensor, self._one_each(label.signs, whole), NONE, whole)

    def _one_each(self, signs: tuple[Ids, ...], whole: bool) -> tuple[Ids, ...]:
        """Beside other labels of a storage, the parts are summed to one."""
        if whole or len(signs) < 2:
            return signs
        total = signs[0]
        for part in signs[1:]:
            total = self.constraints.add(total, part)
        return (total,)

    def _fill(
        self,
        held: _Held,
        slots: list[torch.Tensor],
        tensor: torch.Tensor,
        arrays: Sequence[Ids],
        rest: int,
        whole: bool,
    ) -> None:
        def view(slot: torch.Tensor) -> torch.Tensor:
            return slot.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

        if rest == NONE and not whole and len(slots) > 1:
            total = self._one_each(tuple(slot.numpy() for slot in slots), False)
            slots[:] = [torch.from_numpy(total[0].copy())]
        left = list(range(len(slots)))
        for array in arrays:
            filled = torch.from_numpy(np.array(np.broadcast_to(array, tensor.shape)))
            # A component goes where the storage has none here, or the very same.
            place = next(
                (k for k in left if rest == NONE or self._agrees(view(slots[k]), filled)), None
            )
            if place is None:
                slots.append(self._blank_slot(held, tensor, rest))
                place = len(slots) - 1
            else:
                left.remove(place)
            view(slots[place]).copy_(filled)
        for place in left:
            view(slots[place]).fill_(rest)

    def _blank_slot(self, held: _Held, tensor: torch.Tensor, rest: int) -> torch.Tensor:
        """Nothing yet: WILD where the storage holds zeros, or nothing."""
        slot = torch.full((held.length,), rest, dtype=torch.int64)
        if rest == NONE:
            values = tensor.new_empty(0).set_(held.storage)
            slot[
                torch.ones_like(slot, dtype=torch.bool) if self.is_blank(tensor) else values == 0
            ] = WILD
        return slot

    def _agrees(self, held: torch.Tensor, new: torch.Tensor) -> bool:
        find = self.constraints.find
        known = held.numpy()
        return bool(((known <= 0) | (find(known) == find(new.numpy()))).all())

    # What else is known of storages

    def mark_gain(self, tensor: torch.Tensor) -> None:
        """Note a factor: if it is a parameter with one axis, it is a gain."""
        name = self._vectors.get(tensor.untyped_storage()._cdata)
        if name is not None:
            self.gains.add(name)

    def mark_blank(self, tensor: torch.Tensor) -> None:
        """Its memory holds nothing yet."""
        if is_plain(tensor):
            storage = tensor.untyped_storage()
            self._blank[storage._cdata] = storage

    def is_blank(self, tensor: torch.Tensor) -> bool:
        """Whether nothing was written to its memory, unless with a label."""
        return tensor.untyped_storage()._cdata in self._blank

    def mark_opaque(self, tensor: torch.Tensor) -> None:
        """It holds what the run found in a way that labels do not follow."""
        self._opaque[id(tensor)] = tensor

    def is_opaque(self, tensor: torch.Tensor) -> bool:
        """Whether labels were lost on the way to it."""
        return id(tensor) in self._opaque

    def set_targets(self, tensor: torch.Tensor, atoms: Ids) -> None:
        """Integers that were chosen among labelled entries: the atom behind each value."""
        storage = tensor.untyped_storage()
        self._targets[storage._cdata] = storage, atoms

    def targets(self, tensor: torch.Tensor) -> Ids | None:
        """The atoms behind the values of an index, None if it was not chosen by labels."""
        found = self._targets.get(tensor.untyped_storage()._cdata) if is_plain(tensor) else None
        return None if found is None else found[1]

    def mark_derived(self, tensor: torch.Tensor) -> None:
        """Integers that the run itself found, by comparing what has labels."""
        if is_plain(tensor):
            storage = tensor.untyped_storage()
            self._derived[storage._cdata] = storage

    def is_derived(self, tensor: torch.Tensor) -> bool:
        """Whether the run found these integers, and no one gave them."""
        if not is_plain(tensor):
            return False
        key = tensor.untyped_storage()._cdata
        return key in self._derived or key in self._targets
