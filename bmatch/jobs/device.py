"""Whether a job can run where it is asked to."""

from __future__ import annotations


def require_device(device: str) -> None:
    """Refuse a device that cannot be used here.

    Raises
    ------
    ValueError
        If it is neither the CPU nor a CUDA device that is there.
    """
    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise ValueError(
            f"device {device!r} cannot be used here: bmatch runs on cpu or on a CUDA device (cuda, "
            "cuda:1)"
        )
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used here: {reason}") from None
