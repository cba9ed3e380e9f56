"""Adding up parts, against the twin and in a fixed order."""

from __future__ import annotations

import pytest
import torch
from data import guarded

from bmatch.kernels import reference
from bmatch.kernels.partial_sums import add_partial_sums


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (2, 5, 30, 10), (3, 40, 1, 128), (2, 1, 7, 137), (1, 0, 2, 3)]
)
def test_equal_to_the_twin(shape):
    g = torch.Generator().manual_seed(0)
    sites, _, d1, d2 = shape
    partial = torch.randn(shape, generator=g)
    given = torch.randn(sites, 2, d1 + d2, generator=g, dtype=torch.float64)
    for factors in (None, given):
        total, untouched = guarded(sites, d1, d2, fill=3.0)
        expected = total.clone()
        add_partial_sums(total, partial, factors)
        reference.add_partial_sums(expected, partial, factors)
        assert (total - expected).abs().max() < 1e-12
        assert untouched()
        alone = torch.full((1, d1, d2), 3.0, dtype=torch.float64)
        own = None if factors is None else factors[-1:]
        add_partial_sums(alone, partial[-1:].contiguous(), own)
        assert torch.equal(alone[0], total[-1])
