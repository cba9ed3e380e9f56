"""Where a run that a gauge ought to leave alone first gives something else: the operation's name.

A tensor that carries a space shows the same numbers in another order and with other signs, so sums
of magnitudes and of squares, and the largest magnitude, stay. Where they do not, an operation has
taken single coordinates, numbers of coordinates, or mixtures of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bmatch.architecture.trace import tensors_in

LEAST = 1e-3
"""Relative change of a sum beyond rounding."""


def first_changed(
    model: Any,
    runs: Sequence[Callable[[Any], Any]],
    move: Callable[[], Callable[[], None]],
) -> str | None:
    """The name of the first operation whose result is other numbers, in any of several runs.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it is.
    runs : sequence of callable
        Of the model.
    move : callable
        Moves the model's tensors, and returns what puts them back.

    Returns
    -------
    str or None
        As in ``aten::name``, without the namespace; None where none is found.
    """
    before = [_sums(run, model) for run in runs]
    put_back = move()
    try:
        after = [_sums(run, model) for run in runs]
    finally:
        put_back()
    for one, other in zip(before, after, strict=True):
        for (name, home), (another, there) in zip(one, other, strict=False):
            if name != another or not _alike(home, there):
                return name
    return None


def _sums(run: Callable[[Any], Any], model: Any) -> list[tuple[str, list[torch.Tensor]]]:
    found: list[tuple[str, list[torch.Tensor]]] = []
    with _Sums(found):
        run(model)
    return found


def _alike(home: Sequence[torch.Tensor], there: Sequence[torch.Tensor]) -> bool:
    return len(home) == len(there) and all(
        torch.allclose(one, other, rtol=LEAST, atol=1e-9, equal_nan=True)
        for one, other in zip(home, there, strict=True)
    )


class _Sums(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Of every result that stays whatever the order of its entries and their signs."""

    def __init__(self, found: list[tuple[str, list[torch.Tensor]]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = found

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.partition("::")[2]
        self.found.append((name, [_of(tensor) for tensor in tensors_in(out)]))
        return out


def _of(tensor: torch.Tensor) -> torch.Tensor:
    """Sums of magnitudes and squares, and the largest magnitude; nothing of an empty tensor."""
    if not tensor.numel() or tensor.layout is not torch.strided:
        return torch.zeros(3, dtype=torch.float64)
    size = tensor.detach().double().abs().nan_to_num(posinf=0.0)
    return torch.stack([size.sum(), size.square().sum(), size.max()])
