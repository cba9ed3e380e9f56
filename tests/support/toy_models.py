"""A residual network of a few lines, with places where a test may change what it computes."""

from __future__ import annotations

import torch
from torch import nn

WIDTH, NEURONS, TOKENS = 12, 20, 30


class Toy(nn.Module):
    """Embedding, one gated block, a norm, a head.

    Parameters
    ----------
    stream, normed, last : callable, optional
        What is done to the stream after the block, to the block's input after its norm, and to the
        head's input.
    norm : callable, optional
        In place of RMSNorm without its gain.
    """

    def __init__(self, *, stream=None, normed=None, last=None, norm=None):
        super().__init__()
        self.embed = nn.Embedding(TOKENS, WIDTH)
        self.gain = nn.Parameter(torch.ones(WIDTH))
        self.gate = nn.Linear(WIDTH, NEURONS, bias=False)
        self.up = nn.Linear(WIDTH, NEURONS)
        self.down = nn.Linear(NEURONS, WIDTH)
        self.last_gain = nn.Parameter(torch.ones(WIDTH))
        self.head = nn.Linear(WIDTH, TOKENS, bias=False)
        self.scale = nn.Parameter(torch.ones(WIDTH))
        self._stream, self._normed, self._last = stream, normed, last
        self._norm = norm or rms

    def forward(self, tokens):
        x = self.embed(tokens)
        y = self._norm(x) * self.gain
        y = self._normed(self, y) if self._normed else y
        x = x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))
        x = self._stream(self, x) if self._stream else x
        y = self._norm(x) * self.last_gain
        return self.head(self._last(self, y) if self._last else y)


def rms(x):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def tokens(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {"tokens": torch.randint(TOKENS, (2, 10), generator=generator)}
