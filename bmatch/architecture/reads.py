"""Which slabs of its parameters a run reads: routers may send no token to an expert."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bmatch.architecture.labels import MOST_ROWS
from bmatch.architecture.solve import tensors
from bmatch.architecture.trace import is_view, tensors_in

Slab: TypeAlias = tuple[str, int]
"""The name of a parameter, and an index on its first axis."""

_BY_ROWS = {"index": 1, "index_select": 2, "embedding": 1}
"""Operations that take rows of their first argument, and the position of their numbers."""


def slabs(model: torch.nn.Module, inputs: Mapping[str, Any]) -> tuple[set[Slab], set[Slab]]:
    """The slabs that one run of a small module on the CPU reads, and all of the same parameters.

    Slabs lie on the first of three axes or more, and are the rows of matrices of which the run
    takes single ones: experts, of which several are in one tensor.
    """
    reads = Reads(tensors(model))
    with torch.no_grad(), reads:
        model(**inputs)
    lengths = {name: len(tensor) for name, tensor in tensors(model).items() if tensor.ndim}
    names = {name for name, _ in reads.read}
    return reads.read, {(name, row) for name in names for row in range(lengths[name])}


def names_read(model: torch.nn.Module, run: Callable[[], Any]) -> set[str]:
    """The names of a module's tensors that a run of it computes with."""
    reads = Reads(tensors(model))
    with reads:
        run()
    return reads.names


class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which of some tensors operations read while it is entered, and which slabs of them.

    Attributes
    ----------
    names : set of str
    read : set of tuple of str and int
    """

    def __init__(self, given: Mapping[str, torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._watched = {
            tensor.untyped_storage()._cdata: (name, tensor) for name, tensor in given.items()
        }
        self._sliced = {name for name, tensor in self._watched.values() if tensor.ndim > 2}
        self.names: set[str] = set()
        self.read: set[Slab] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and note what it reads; of nothing, it reads nothing."""
        out = func(*args, **(kwargs or {}))
        watched = [
            tensor
            for tensor in tensors_in((args, kwargs))
            if tensor.untyped_storage()._cdata in self._watched
        ]
        if not watched:
            return out
        if is_view(func):
            if func is torch.ops.aten.select.int and args[1] == 0:
                name, whole = self._watched[args[0].untyped_storage()._cdata]
                if whole.ndim == 2 and len(whole) <= MOST_ROWS:
                    self._sliced.add(name)
            return out
        made = tensors_in(out)
        if not made or any(tensor.numel() for tensor in made):
            rows = self._rows(func, args)
            for tensor in watched:
                name = self._name(tensor)
                self.names.add(name)
                if name in self._sliced:
                    shown = self._shown(tensor) if rows is None or tensor is not args[0] else rows
                    self.read |= {(name, row) for row in shown}
        return out

    def _name(self, tensor: torch.Tensor) -> str:
        return self._watched[tensor.untyped_storage()._cdata][0]

    def _rows(self, func: Any, args: Sequence[Any]) -> set[int] | None:
        """The rows that an operation takes of a whole parameter; None if it takes no rows."""
        place = _BY_ROWS.get(func._schema.name.partition("::")[2])
        if place is None or args[0].untyped_storage()._cdata not in self._watched:
            return None
        if self._shown(args[0]) != range(len(args[0])):
            return None
        if func._schema.name == "aten::index_select" and args[1] != 0:
            return None
        index = args[place]
        index = index[0] if isinstance(index, (list, tuple)) else index
        if index is None:
            return None
        numbers = index.nonzero()[:, 0] if index.dtype == torch.bool else index
        return {int(number) % len(args[0]) for number in numbers.unique()}

    def _shown(self, tensor: torch.Tensor) -> Iterable[int]:
        """The slabs from the first to the last entry of a view of a parameter."""
        whole = self._watched[tensor.untyped_storage()._cdata][1]
        first = tensor.storage_offset() - whole.storage_offset()
        steps = zip(tensor.shape, tensor.stride(), strict=True)
        last = first + sum((size - 1) * step for size, step in steps)
        size = whole.stride(0)
        return range(first // size, last // size + 1) if tensor.numel() else range(0)
