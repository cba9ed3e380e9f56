"""Streams to correlate: rows with strangers beside them, pairs of known correlation."""

from __future__ import annotations

import torch


def rows_apart(g, rows, cols, dtype):
    """Rows that do not follow one another at once, with numbers beside them that do not count."""
    memory = torch.randn(rows, cols + 5, generator=g).to(dtype)
    memory[:, :2] = memory[:, cols + 2 :] = float("nan")
    return memory[:, 2 : cols + 2]


def paired_at_sites(sites, tokens, d1, d2):
    """Pairs of streams of different scale and mean at each site: [S, T, D1] and [S, T, D2]."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(sites, tokens, d2, generator=g)
    y = 0.7 * x[..., torch.arange(d1) % d2] + torch.randn(sites, tokens, d1, generator=g)
    scale = 10.0 ** torch.arange(sites)[:, None, None]
    return y * scale - 5.0, x * scale + torch.arange(d2)
