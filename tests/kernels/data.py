"""Streams that are hard in one way each, and tensors with NaN all around them."""

from __future__ import annotations

import torch

CASES = ("random", "mean ten", "massive", "constant", "masked")


def streams(case, tokens, d1, d2, dtype, seed=0):
    """Correlated streams of a case, and a mask or None: [T, D1], [T, D2], [T]."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, d2, generator=g)
    y = 0.7 * x[:, torch.arange(d1) % d2] + 0.5 * torch.randn(tokens, d1, generator=g)
    mask = None
    if case == "mean ten":
        x, y = x + 10.0, y - 10.0
    elif case == "massive":  # as a sink token has it, in some channels of both streams
        x[::97, 1] = 25_000.0
        y[::97, :2] = -25_000.0
    elif case == "constant":
        x[:, 2] = 0.1
        y[:, 0] = -3e4
    elif case == "masked":
        mask = torch.rand(tokens, generator=g) < 0.6
    y, x = y.to(dtype), x.to(dtype)
    if mask is not None:
        x[~mask] = float("nan")
        y[~mask] = float("inf")
    return surrounded(y), surrounded(x), mask


def surrounded(values):
    """The same numbers in rows on 16 bytes, with NaN before, behind and between the rows."""
    rows, d = values.shape
    per_row = (d // 8 + 2) * 8
    memory = torch.full((rows + 2, per_row), float("nan"), dtype=values.dtype)
    inside = memory[1 : rows + 1, 8 : 8 + d]
    inside.copy_(values)
    return inside


def guarded(*shape, fill):
    """A contiguous float64 tensor, and a function that says whether its surroundings are NaN."""
    size = torch.Size(shape).numel()
    memory = torch.full((size + 128,), float("nan"), dtype=torch.float64)
    inside = memory[64:-64].view(shape)
    inside.fill_(fill)
    return inside, lambda: bool(memory[:64].isnan().all() and memory[-64:].isnan().all())
