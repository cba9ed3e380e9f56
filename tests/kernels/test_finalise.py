"""The last step and the scan against their twins."""

from __future__ import annotations

import pytest
import torch
from data import guarded

from bmatch.kernels import finalise, reference


def normalisation(d1, d2, seed=0):
    """Moments of random streams, the first channel of each constant."""
    g = torch.Generator().manual_seed(seed)
    comoment, _ = guarded(d1, d2, fill=0.0)
    comoment.copy_(torch.randn(d1, d2, generator=g))
    vectors = [torch.rand(d, generator=g).double() for d in (d1, d2)]
    vectors[0][0] = vectors[1][0] = 0.0
    return comoment, *vectors


@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (33, 129), (70, 600)])
def test_equal_to_the_twins(shape):
    given = normalisation(*shape)
    assert torch.equal(finalise.finalise(*given), reference.finalise(*given))
    for got, expected in zip(finalise.strongest(*given), reference.strongest(*given), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("widths", [(1, 1), (37, 300)])
def test_scales(widths):
    g = torch.Generator().manual_seed(0)
    means, squares = ([torch.rand(d, generator=g).double() for d in widths] for _ in range(2))
    squares[0][0] = squares[1][-1] = 0.0
    means[1][0], squares[1][0] = 1e10, 1e-9  # what roundings leave of a large constant
    got = finalise.scales(means, squares, 500)
    assert torch.allclose(got, reference.scales(means, squares, 500), rtol=1e-15, atol=0.0)
    assert got[[0, widths[0], -1]].tolist() == [0.0] * 3
    for odd in (float("nan"), float("inf")):
        squares[1][0] = odd
        for module in (finalise, reference):
            assert module.scales(means, squares, 500).isnan().nonzero().tolist() == [[widths[0]]]


def test_ties_go_to_the_lower_column_within_and_across_blocks():
    comoment = torch.full((3, 700), 0.25, dtype=torch.float64)
    comoment[1, [3, 650]] = torch.tensor([-0.5, 0.5], dtype=torch.float64)
    comoment[2] = 0.0
    ones = [torch.ones(d, dtype=torch.float64) for d in (3, 700)]
    source, value, second = finalise.strongest(comoment, *ones)
    assert source.tolist() == [0, 3, 0]
    assert value.tolist() == [0.25, -0.5, 0.0]
    assert second.tolist() == [0.25, 0.5, 0.0]
