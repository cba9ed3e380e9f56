"""Arrays and tensors: every conversion between them, and where one lies.

torch is imported only where a tensor is there already or is asked for: what takes arrays works
without it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Array: TypeAlias = "npt.NDArray[Any] | torch.Tensor"
"""Arrays in, arrays out; tensors in, tensors out."""

AnyArray = TypeVar("AnyArray", bound="Array")

NOT_MOVED = "nothing is moved between devices unasked"
"""How every error ends that refuses what lies elsewhere."""


def is_tensor(value: object) -> bool:
    """Whether `value` is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_on_device(value: object) -> bool:
    """Whether `value` is a tensor, or an array of another library, on a CUDA device."""
    if is_tensor(value):
        return value.device.type == "cuda"  # type: ignore[attr-defined, no-any-return]
    return hasattr(value, "__cuda_array_interface__")


BFLOAT16 = np.dtype([("bfloat16", np.uint16)])
"""bfloat16, which NumPy has not, as it is stored: `as_floats` tells the numbers."""


def as_array(values: Any, *, stored: bool = False) -> npt.NDArray[Any]:
    """Array_like, a tensor of any device or a list of them, as a NumPy array on the host.

    Without a copy where it is on the host already. bfloat16 and float8, which NumPy has not, become
    float32; but bfloat16 becomes `BFLOAT16`, without a copy, if it is to be as it is `stored`.

    Raises
    ------
    TypeError
        For a tensor whose numbers cannot be read one by one.
    """
    if not is_tensor(values):
        if isinstance(values, list | tuple) and any(map(is_tensor, values)):
            return np.stack([as_array(value) for value in values])
        array = np.asarray(values)
        if array.dtype.isbuiltin != 2:
            return array
        # A type of another package than NumPy: of ml_dtypes, as a rule.
        if stored and array.dtype.name == "bfloat16":
            return array.view(BFLOAT16)
        return array.astype(np.float32) if np.can_cast(array.dtype, np.float32, "safe") else array
    if values.device.type == "meta":
        raise TypeError("a meta tensor holds no numbers: pass a tensor on a CPU or a CUDA device")
    if values.layout != sys.modules["torch"].strided or values.is_quantized:
        kind = "quantised" if values.is_quantized else str(values.layout).removeprefix("torch.")
        raise TypeError(
            f"expected a dense tensor of numbers, got a {kind} one of {values.dtype}: pass "
            f"{'tensor.dequantize()' if values.is_quantized else 'tensor.to_dense()'}"
        )
    tensor = values.detach().resolve_neg().resolve_conj().cpu()
    if tensor.dtype.is_floating_point and tensor.dtype.itemsize < 4:
        torch = sys.modules["torch"]
        if stored and tensor.dtype == torch.bfloat16:
            return tensor.view(torch.int16).numpy().view(BFLOAT16)  # type: ignore[no-any-return]
        tensor = tensor if tensor.dtype == torch.float16 else tensor.float()
    numbers: npt.NDArray[Any] = tensor.numpy()
    return numbers


def as_floats(stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Stored entries in a floating type that holds them; without a copy where they have one.

    Integers of 64 bits are rounded to float64. `BFLOAT16` becomes float32.
    """
    if stored.dtype == BFLOAT16:
        return (stored["bfloat16"].astype(np.uint32) << 16).view(np.float32)
    if stored.dtype.kind == "f":
        return stored
    single = np.can_cast(stored.dtype, np.float32, "safe")
    return stored.astype(np.float32 if single else np.float64)


def as_tensor(values: Any) -> torch.Tensor:
    """Array_like, a tensor, or what hands itself over by DLPack, as a tensor where it lies.

    Without a copy where torch can read its memory.

    Raises
    ------
    ValueError
        If torch is not installed.
    """
    if is_tensor(values):
        tensor: torch.Tensor = values.detach() if values.requires_grad else values
        return tensor.resolve_neg() if tensor.is_neg() else tensor
    try:
        import torch
    except ImportError:
        raise ValueError(
            "what lies on a device is read by torch, which is not installed: install torch, or "
            f"pass a NumPy array in place of the {type(values).__name__}"
        ) from None
    if is_on_device(values):
        return torch.utils.dlpack.from_dlpack(values)
    if isinstance(values, np.ndarray):
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        # torch reads neither negative strides nor, without a warning, read-only arrays.
        readable = native.flags.writeable and all(stride >= 0 for stride in native.strides)
        values = native if readable else native.copy()
    return torch.as_tensor(values)


def on_host(value: Any) -> Any:
    """The same on the host, if it is on a CUDA device: where that was asked for, or costs less."""
    return as_tensor(value).cpu() if is_on_device(value) else value


def kind_of(value: Any, on_device: bool) -> Callable[[Any], Any]:
    """What makes results, arrays or tensors, things of the kind of `value` where it lies.

    `on_device` is what `is_on_device` says of it.
    """
    if is_tensor(value):
        torch = sys.modules["torch"]
        device = value.device
        return lambda result: torch.as_tensor(result, device=device)
    if not on_device:
        return lambda result: result
    device = as_tensor(value).device
    torch = sys.modules["torch"]
    library = sys.modules[type(value).__module__.split(".")[0]]
    return lambda result: library.from_dlpack(torch.as_tensor(result, device=device))


def as_int8(flags: Any) -> Any:
    """Booleans as int8, an array or a tensor as they are one."""
    return flags.to(sys.modules["torch"].int8) if is_tensor(flags) else flags.astype(np.int8)


def copied(values: Any) -> Any:
    """The same numbers in memory of their own."""
    return values.clone() if is_tensor(values) else values.copy()


def arange(count: int, like: Any) -> Any:
    """0, 1, ... as int64 [count], an array or a tensor where `like` is one."""
    if is_tensor(like):
        return sys.modules["torch"].arange(count, device=like.device)
    return np.arange(count)


def full(count: int, value: int, like: Any) -> Any:
    """One value as int64 [count], an array or a tensor where `like` is one."""
    if is_tensor(like):
        torch = sys.modules["torch"]
        return torch.full((count,), value, dtype=torch.int64, device=like.device)
    return np.full(count, value, np.int64)
