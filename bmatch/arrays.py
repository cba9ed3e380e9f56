"""Arrays and tensors side by side, without importing torch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Array: TypeAlias = "npt.NDArray[Any] | torch.Tensor"
"""Arrays in, arrays out; tensors in, tensors out."""

AnyArray = TypeVar("AnyArray", bound="Array")


def is_tensor(value: object) -> bool:
    """Whether `value` is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)
