"""Which axes of which tensors carry the residual stream, and the proof of it on logits.

`derive` finds them, and every further gauge space, in a traced run of any model.
"""

from typing import TYPE_CHECKING, Any

from bmatch.architecture.axes import ResidualAxes
from bmatch.architecture.spaces import Axes, Member, Space
from bmatch.architecture.table import residual_axes
from bmatch.architecture.verify import verify

if TYPE_CHECKING:
    from bmatch.architecture.deriving import derive
    from bmatch.architecture.proof import Proof, prove

_LAZY = {  # they import torch
    "derive": "bmatch.architecture.deriving",
    "Proof": "bmatch.architecture.proof",
    "prove": "bmatch.architecture.proof",
}

__all__ = [
    "Axes",
    "Member",
    "Proof",
    "ResidualAxes",
    "Space",
    "derive",
    "prove",
    "residual_axes",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
