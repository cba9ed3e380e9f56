"""The shift of a batch: what its channels lose before anything is summed, from a few tokens.

A channel whose median is not small beside its spread loses it. The median is that of pilot tokens,
which `bmatch.kernels.reference` chooses and reads; on a GPU `bmatch.kernels.pilot` does the same.
"""

from __future__ import annotations

import torch

from bmatch.correlation.batch import Batch
from bmatch.kernels import reference

PILOT_TOKENS = 32
"""Pilot tokens of a batch on the CPU."""

DEVICE_PILOT_TOKENS = 256
"""Pilot tokens on a GPU, where medians are cheap. From 32 tokens one channel in 10^6 is shifted
without need, and a needless shift costs six bfloat16 products instead of one in 16 bits."""


def pilot_shifts(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The shifts of target and source: float32, or float64 of float64, [S, D1] and [S, D2]."""
    device = batch.target.device
    most = DEVICE_PILOT_TOKENS if device.type == "cuda" else PILOT_TOKENS
    pilot = reference.pilot_tokens(batch.tokens, batch.kept, most, device)  # [P]
    target, source = (
        reference.pilot_shift(values, pilot) for values in (batch.target, batch.source)
    )
    return target, source
