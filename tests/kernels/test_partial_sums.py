"""Adding up parts, against the twin and in a fixed order."""

from __future__ import annotations

import pytest
import torch
from data import guarded

from bmatch.kernels import reference
from bmatch.kernels.partial_sums import add_partial_sums


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 300), (3, 40, 128)])
def test_equal_to_the_twin(shape):
    partial = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    total, untouched = guarded(shape[0], shape[2], fill=3.0)
    expected = total.clone()
    add_partial_sums(total, partial)
    reference.add_partial_sums(expected, partial)
    assert (total - expected).abs().max() < 1e-12
    assert untouched()
    alone = torch.full((1, shape[2]), 3.0, dtype=torch.float64)
    add_partial_sums(alone, partial[-1:].contiguous())
    assert torch.equal(alone[0], total[-1])
