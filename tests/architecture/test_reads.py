"""Which slabs of parameters a run reads."""

from __future__ import annotations

import torch
from torch import nn

from bmatch.architecture.reads import slabs


class Experts(nn.Module):
    """Six experts in one tensor with biases in another, of which a run asks those it is told."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.randn(6, 4, 4))
        self.biases = nn.Parameter(torch.randn(6, 4))
        self.table = nn.Parameter(torch.randn(6, 4))

    def forward(self, x, single, several):
        x = x + self.table[several].sum(0)
        out = x @ self.weights[single].T + self.biases[single]
        nobody = x[:0] @ self.weights[5]
        return out + (x @ self.weights[several]).sum(0) + nobody.sum()


def test_rows_that_an_operation_takes_are_read():
    """Not those that are asked of no token, and not rows of a table that is taken by numbers."""
    inputs = {"x": torch.randn(3, 4), "single": 1, "several": torch.tensor([3, 0, 3])}
    read, there = slabs(Experts(), inputs)
    assert read == {("weights", 0), ("weights", 1), ("weights", 3), ("biases", 1)}
    assert there == {(name, row) for name in ("weights", "biases") for row in range(6)}
