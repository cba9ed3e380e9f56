"""Whether a job can run where it is asked to."""

from __future__ import annotations

import importlib.util

SPREAD = "auto"
"""All GPUs, memory and a folder on disk, over which accelerate spreads a model."""


def require_device(device: str, *, spread: bool = False) -> None:
    """Refuse a device that cannot be used here.

    Parameters
    ----------
    device : str
    spread : bool
        Whether models run there, which may be spread out (``auto``).

    Raises
    ------
    ValueError
        If it is neither the CPU nor a CUDA device that is there; or if models are to be spread out
        and accelerate is not installed.
    """
    if spread and device == SPREAD:
        if importlib.util.find_spec("accelerate") is None:
            raise ValueError("device 'auto' is by accelerate: pip install accelerate")
        return
    if device.partition(":")[0] not in ("cpu", "cuda"):
        others = ", or spreads models over all there are (auto)" if spread else ""
        raise ValueError(
            f"device {device!r} cannot be used here: bmatch runs on cpu or on a CUDA device (cuda, "
            f"cuda:1){others}"
        )
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used here: {reason}") from None


def first_device(device: str) -> str:
    """Where a model that runs there takes its tokens, and where the sums of its streams are."""
    if device != SPREAD:
        return device
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"
