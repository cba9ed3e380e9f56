"""What the host is told of a batch, and the move of means, against their twins."""

from __future__ import annotations

import pytest
import torch
import twins
from data import guarded

from bmatch.kernels import batch_sums, reference


@pytest.mark.parametrize(("sites", "width", "tokens"), [(1, 2, 1), (3, 1030, 2050), (2, 1024, 7)])
def test_findings(sites, width, tokens):
    g = torch.Generator().manual_seed(0)
    sums = torch.rand(sites, 2, width, generator=g).double()
    shift = torch.zeros(sites, width)
    shift[-1, -1] = -1e-30
    mask = torch.rand(tokens, generator=g) < 0.5
    for kept in (None, mask, torch.zeros_like(mask)):
        got = batch_sums.findings(sums, shift, kept, tokens)
        assert torch.equal(got, reference.findings(sums, shift, kept, tokens))
    for odd in (float("nan"), float("inf")):
        sums[0, 1, width // 2] = odd
        got = batch_sums.findings(sums, shift, None, tokens)
        assert got[0] == torch.inf
        assert got[1:sites].isfinite().all()
        assert got[-1] == tokens


@pytest.mark.parametrize(("d1", "d2"), [(1, 1), (37, 300), (256, 5)])
@pytest.mark.parametrize(("seen", "count"), [(0, 1), (1, 1), (500, 60), (2**33, 512)])
def test_move(d1, d2, seen, count):
    g = torch.Generator().manual_seed(0)
    given = [guarded(2, d, fill=0.0) for _ in range(2) for d in (d1, d2)]
    for values, _ in given:
        values.copy_(torch.rand(values.shape, generator=g))
    y_mean, x_mean, y_square, x_square = (values for values, _ in given)
    shift = torch.randn(2, d1 + d2, generator=g)
    sums = torch.randn(2, 2, d1 + d2, generator=g).double()
    sums[:, 1] = sums[:, 0].square() / count + torch.rand(2, d1 + d2, generator=g)
    sums[:, 1, 0] = sums[:, 0, 0].square() / count * (1 - 1e-16)  # a constant, rounded down

    twin = [values.clone() for values, _ in given]
    expected = twins.move(twin[:2], twin[2:], shift, sums, seen, count)

    got = batch_sums.move((y_mean, x_mean), (y_square, x_square), shift, sums, seen, count)
    assert torch.allclose(got, expected, rtol=1e-14, atol=1e-14)
    for (values, untouched), other in zip(given, twin, strict=True):
        assert torch.allclose(values, other, rtol=1e-14, atol=1e-14)
        assert untouched()
