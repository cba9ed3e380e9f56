"""One operation of a traced run: its arguments by name, their labels, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch

from bmatch.architecture.constraints import Constraints
from bmatch.architecture.forms import Ids
from bmatch.architecture.labels import Label, Labels, is_plain
from bmatch.architecture.merging import Operand


@dataclass
class Call:
    """An operation as its rule sees it.

    Attributes
    ----------
    name : str
        Without namespace, overload and the underscore of operations in place.
    function : callable
        The overload itself.
    arguments : dict
        All arguments by their names in the schema, as they were before the operation.
    labels : Labels
    out : tensor or sequence of tensors
    """

    name: str
    function: Callable[..., Any]
    arguments: dict[str, Any]
    labels: Labels
    before: dict[int, tuple[Label, torch.Tensor]] = field(default_factory=dict)
    out: Any = None

    @property
    def constraints(self) -> Constraints:
        """What the run demands."""
        return self.labels.constraints

    def __getitem__(self, name: str) -> Any:
        return self.arguments.get(name)

    def label(self, tensor: torch.Tensor) -> Label:
        """The label of an argument, as it was before the operation."""
        known = self.before.get(id(tensor))
        return self.labels.read(tensor) if known is None else known[0]

    def values(self, tensor: torch.Tensor) -> torch.Tensor:
        """The numbers of an argument, as they were before the operation."""
        known = self.before.get(id(tensor))
        return tensor if known is None else known[1]

    def operand(self, value: Any, ndim: int | None = None) -> Operand:
        """An argument, with leading axes up to `ndim`."""
        if not isinstance(value, torch.Tensor):
            value = torch.as_tensor(value)
        label, numbers = self.label(value), self.values(value)
        if ndim is not None and ndim > value.ndim:
            shape = (1,) * (ndim - value.ndim) + tuple(value.shape)
            label = label.reshaped(shape, range(ndim - value.ndim, ndim))
            numbers = numbers.reshape(shape)
        return Operand(label, numbers)

    def operands(self, *names: str) -> list[Operand]:
        """Arguments of an operation that works entry by entry, those left out left out."""
        given = [self[name] for name in names if self[name] is not None]
        ndim = max((v.ndim for v in given if isinstance(v, torch.Tensor)), default=0)
        return [self.operand(value, ndim) for value in given]

    def write(self, atoms: Sequence[Ids], signs: Sequence[Ids], out: Any = None) -> None:
        """Label what came out."""
        tensor = self.out if out is None else out
        self.labels.write(tensor, Label(tuple(tensor.shape), tuple(atoms), tuple(signs)))

    def stay(self, out: torch.Tensor) -> None:
        """Label what came out as numbers that the run found: no gauge moves them."""
        if not is_plain(out):
            self.labels.mark_opaque(out)
            return
        c, ndim = self.constraints, out.ndim
        sizes = [(axis, size) for axis, size in enumerate(out.shape) if size > 1]
        atoms = [
            c.new_places(size).reshape([size if k == axis else 1 for k in range(ndim)])
            for axis, size in sizes
        ]
        self.write(atoms, (), out)

    def axes(self, dim: int | Sequence[int] | None, ndim: int) -> list[int]:
        """Axes as numbers from 0 on; all where none is named."""
        if dim is None or (not isinstance(dim, int) and len(dim) == 0):
            return list(range(ndim))
        return [k % max(ndim, 1) for k in ([dim] if isinstance(dim, int) else dim)]


class NoRule(Exception):
    """What an operation does to labels is not known."""


Rule: TypeAlias = Callable[[Call], None]
RULES: dict[str, Rule] = {}
"""By the names of operations; filled by the modules of rules."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Make a function the rule of some operations."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def full(array: Ids, shape: Sequence[int]) -> torch.Tensor:
    """An array of a label as a tensor with an entry for each of the labelled tensor's."""
    return torch.from_numpy(np.array(np.broadcast_to(array, tuple(shape))))
