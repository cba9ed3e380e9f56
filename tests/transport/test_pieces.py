"""Tensors that lie in rows."""

from __future__ import annotations

import pytest
import torch

from bmatch import SignedPermutation
from bmatch.transport.objects import Along
from bmatch.transport.pieces import Pieces


def test_pieces_of_a_grid():
    """[rows of pieces, columns of pieces, entries], each piece row by row."""
    tensor = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7]])
    stored = torch.tensor([[[0, 1], [2, 3]], [[4, 5], [6, 7]]])
    assert torch.equal(Pieces((2, 4), (2, 2, 2)).whole(stored), tensor)
    tall = torch.tensor([[[0, 1, 4, 5], [2, 3, 6, 7]]])
    pieces = Pieces((2, 4), (1, 2, 4))
    assert torch.equal(pieces.whole(tall), tensor)
    assert torch.equal(pieces.rows(tensor), tall)
    gauge = SignedPermutation([1, 2, 3, 0], [1, -1, 1, 1])
    moved = pieces.along(Along(((1, True),)))(tall, gauge)
    assert torch.equal(pieces.whole(moved), gauge.apply(tensor))


def test_one_row():
    pieces = Pieces((3, 2), (6,))
    assert torch.equal(pieces.whole(torch.arange(6)), torch.arange(6).view(3, 2))
    assert torch.equal(pieces.rows(torch.arange(6).view(3, 2)), torch.arange(6))


@pytest.mark.parametrize(
    ("shape", "stored", "fits"),
    [
        ((2, 4), (8,), True),
        ((2, 4), (2, 1, 4), True),
        ((2, 4), (1, 3, 4), False),
        ((2, 4), (2, 2, 3), False),
        ((2, 4), (2, 4), False),
        ((2, 4), (0, 1, 8), False),
        ((2, 4), (7,), False),
    ],
)
def test_what_fits(shape, stored, fits):
    assert Pieces(shape, stored).fits is fits
