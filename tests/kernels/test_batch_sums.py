"""What the host is told of a batch, and the move of means, against their twins."""

from __future__ import annotations

import pytest
import torch
import twins
from data import guarded

from bmatch.kernels import batch_sums, reference


def read(found, sites):
    """The largest square of each site, and whether it is shifted: [2, S]."""
    return found[:-1].view(2, sites, -1).amax(2)


@pytest.mark.parametrize(
    ("sites", "parts", "width", "tokens"), [(1, 1, 2, 1), (3, 9, 134, 2050), (2, 70, 64, 7)]
)
def test_findings(sites, parts, width, tokens):
    g = torch.Generator().manual_seed(0)
    partial = torch.randn(sites, parts, 2, width, generator=g)
    partial[:, :, 1].abs_()
    shift = torch.zeros(sites, width)
    shift[-1, -1] = -1e-30
    mask = torch.rand(tokens, generator=g) < 0.5
    for seen in (None, mask.cumsum(0), torch.zeros(tokens, dtype=torch.int64)):
        sums, found = batch_sums.findings(partial, shift, seen, tokens)
        expected, largest = reference.findings(partial, shift, seen, tokens)
        assert torch.allclose(sums, expected, rtol=1e-14, atol=1e-14)
        assert torch.allclose(read(found, sites), read(largest, sites), rtol=1e-14)
        assert found[-1] == largest[-1]
    alone, _ = batch_sums.findings(partial[-1:].contiguous(), shift[-1:], None, tokens)
    assert torch.equal(alone[0], sums[-1])
    for odd in (float("nan"), float("inf")):
        partial[0, -1, 1, width // 2] = odd
        _, found = batch_sums.findings(partial, shift, None, tokens)
        largest = read(found, sites)[0]
        assert largest[0] == torch.inf
        assert largest[1:].isfinite().all()
        assert found[-1] == tokens


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
