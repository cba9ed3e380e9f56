"""Calls by which numbers leave the tensors of a run, where no label follows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from bmatch.architecture.trace import Trace

_LEAVING = {"numpy", "__array__", "tolist", "__dlpack__"}


class Leaving(TorchFunctionMode):
    """Fixes what leaves a trace for NumPy or lists, and names the call."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._trace = trace

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch."""
        name = getattr(func, "__name__", "")
        if name in _LEAVING and args and isinstance(args[0], torch.Tensor):
            label = self._trace.labels.read(args[0])
            if label:
                self._trace.touch(name.strip("_"), [label])
        return func(*args, **(kwargs or {}))


@contextmanager
def by_small_operations() -> Iterator[None]:
    """Without the ways in which torch takes a whole layer of its own as one operation."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
