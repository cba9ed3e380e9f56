"""One forward pass of a model, followed by labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch._decomp import decomposition_table
from torch.utils._python_dispatch import TorchDispatchMode

from bmatch.architecture import contraction, elementwise, indexing, movement  # noqa: F401
from bmatch.architecture.calls import RULES, Call, NoRule
from bmatch.architecture.constraints import Constraints
from bmatch.architecture.labels import Label, Labels, is_plain
from bmatch.architecture.merging import never_flips
from bmatch.architecture.parts import mark_parts

_BLANK = {
    "empty",
    "empty_strided",
    "empty_like",
    "new_empty",
    "new_empty_strided",
    "empty_permuted",
}


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Labels the results of all operations while it is entered.

    Attributes
    ----------
    constraints : Constraints
        What the operations so far demand.
    unknown : dict of str to int
        Operations without a rule, and how often each fixed what it touched.
    drawn : set of str
        Operations that drew numbers at random.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.constraints = Constraints()
        self.labels = Labels(self.constraints)
        self.unknown: dict[str, int] = {}
        self.drawn: set[str] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and label what comes out."""
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.drawn.add(func._schema.name.partition("::")[2])
        with torch._C.DisableTorchFunction():  # what rules read leaves the run for nothing
            return self._followed(func, args, dict(kwargs or {}))

    def _followed(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        given = tensors_in((args, kwargs))
        if func is torch.ops.aten.select.int and args[1] == 0:
            self.labels.mark_sliced(args[0])
        labels = [self.labels.read(tensor) for tensor in given]
        name = func._schema.name.partition("::")[2]
        opaque = any(map(self.labels.is_opaque, given))
        if not opaque and not any(labels) and not self._is_choice(name, given):
            return self._unlabelled(func, name, given, args, kwargs)
        writes = func._schema.is_mutable
        plain = name.removesuffix("_") if writes else name
        rule = None if opaque else RULES.get(plain)
        if rule is None and not writes and not opaque:
            decomposed = self._decomposed(func, args, kwargs)
            if decomposed is not NotImplemented:
                return decomposed
        call = Call(plain, func, _by_name(func, args, kwargs), self.labels)
        for tensor, label in zip(given, labels, strict=True):
            call.before[id(tensor)] = label, tensor.clone() if writes else tensor
        call.out = func(*args, **kwargs)
        if is_view(func) and rule is None and not opaque:
            return call.out
        if rule is not None and writes:
            call.function = _functional(func)
        try:
            if rule is None or not all(map(is_plain, (*given, *tensors_in(call.out)))):
                raise NoRule(name)
            rule(call)
            if writes:
                mark_parts(call)
        except NoRule as reason:
            self._fix(str(reason), call, given)
        self._derived(name, given, call.out)
        return call.out

    def _is_choice(self, name: str, given: Sequence[torch.Tensor]) -> bool:
        """Whether factors are put where the run has chosen: ones at the largest entries.

        Integers there only count.
        """
        return (
            name.startswith("scatter")
            and given[0].is_floating_point()
            and any(self.labels.targets(tensor) is not None for tensor in given)
        )

    def _unlabelled(
        self, func: Any, name: str, given: Sequence[torch.Tensor], args: Any, kwargs: Any
    ) -> Any:
        out = func(*args, **kwargs)
        if name in _BLANK:
            self.labels.mark_blank(out)
        self._derived(name, given, out)
        return out

    def _derived(self, name: str, given: Sequence[torch.Tensor], out: Any) -> None:
        """Integers made of integers that the run found were found by the run."""
        if not any(self.labels.is_derived(tensor) for tensor in given):
            return
        for tensor in tensors_in(out):
            if not tensor.is_floating_point():
                self.labels.mark_derived(tensor)
                targets = self.labels.targets(given[0])
                if name in ("clone", "_to_copy", "index", "masked_select") and targets is not None:
                    self.labels.set_targets(tensor, targets)

    def _decomposed(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The result by smaller operations, each of which is labelled.

        What shows the memory of what it was given, or else a copy (`reshape`), is one of either.
        """
        table: Mapping[Any, Callable[..., Any]] = decomposition_table
        with self:
            if func in table and not is_view(func):
                return table[func](*args, **kwargs)
            return func.decompose(*args, **kwargs)

    def _fix(self, name: str, call: Call, given: Sequence[torch.Tensor]) -> None:
        """What came out is of no known label: its entries stay where they are.

        Their numbers tell nothing, though no parameter is known to move them: equal ones of this
        run may differ under other weights.
        """
        self.touch(name, map(call.label, given))
        for tensor in tensors_in(call.out):
            call.stay(tensor)

    def touch(self, name: str, labels: Iterable[Label]) -> None:
        """Fix what an operation without a rule has met."""
        self.unknown[name] = self.unknown.get(name, 0) + 1
        for label in labels:
            for atoms in label.atoms:
                self.constraints.fix(self.constraints.plain(atoms))
            never_flips(self.constraints, label)

    def require_unchanged(self, tensor: torch.Tensor) -> None:
        """The numbers of an output stay what they are, each at its place."""
        label = self.labels.read(tensor)
        for atoms in label.atoms:
            self.constraints.fix(self.constraints.plain(atoms))
        never_flips(self.constraints, label)


def tensors_in(tree: Any) -> list[torch.Tensor]:
    """The tensors among what an operation is given, or gives."""
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, (list, tuple)):
        return []
    return [tensor for part in tree for tensor in tensors_in(part)]


def is_view(func: Any) -> bool:
    """Whether what an operation gives shows the memory of what it was given."""
    aliases = [r.alias_info for r in func._schema.returns]
    return any(info is not None and not info.is_write for info in aliases) or func._schema.name in (
        "aten::_unsafe_view",
        "aten::_reshape_alias",
        "aten::lift_fresh",
    )


def _by_name(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for position, argument in enumerate(func._schema.arguments):
        if argument.name in kwargs:
            found[argument.name] = kwargs[argument.name]
        elif position < len(args):
            found[argument.name] = args[position]
        else:
            found[argument.name] = argument.default_value if argument.has_default_value() else None
    if func.namespace == "prims":  # what decompositions end in
        return {_OF_PRIMS.get(name, name): value for name, value in found.items()}
    return found


_OF_PRIMS = {"inp": "self", "dims": "dim", "pred": "condition", "a": "self", "b": "other"}


def _functional(func: Any) -> Any:
    """The operation that makes a new tensor in place of changing one."""
    packet = getattr(torch.ops.aten, func._schema.name.partition("::")[2].removesuffix("_"), None)
    return getattr(packet, func._overloadname, func)
