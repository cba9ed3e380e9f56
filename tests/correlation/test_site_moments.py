"""Moments of many sites against single ones, and the memory stated."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bmatch import CrossMoments
from bmatch.correlation import chunks
from bmatch.correlation.site_moments import SiteMoments, moments_bytes
from bmatch.kernels import reference


def paired_streams(sites, tokens, d1, d2):
    """Pairs of streams of different scale and mean at each site: [S, T, D1] and [S, T, D2]."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(sites, tokens, d2, generator=g)
    y = 0.7 * x[..., torch.arange(d1) % d2] + torch.randn(sites, tokens, d1, generator=g)
    scale = 10.0 ** torch.arange(sites)[:, None, None]
    return y * scale - 5.0, x * scale + torch.arange(d2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_sites_are_moments_of_their_own_to_the_bit(dtype):
    y, x = (v.to(dtype) for v in paired_streams(3, 600, 9, 7))
    y[1] = y[1] * 1e30  # one site beyond the range of float32 products
    mask = torch.arange(600).reshape(6, 100) % 7 != 0
    together = SiteMoments((0, 8, 16), 9, 7)
    alone = [CrossMoments(9, 7) for _ in range(3)]
    for part in (slice(0, 2), slice(2, 6)):
        a, b = (v.unflatten(1, (6, 100))[:, part] for v in (y, x))
        together.update(a, b, mask[part])
        for s in range(3):
            alone[s].update(a[s], b[s], mask[part])
    assert together.count == alone[0].count == int(mask.sum())
    kept = mask.reshape(-1)
    for s in range(3):
        c = together.correlation(s)
        assert torch.equal(c, alone[s].correlation())
        pair = y[s, kept].double().numpy(), x[s, kept].double().numpy()
        expected = np.corrcoef(pair[0].T, pair[1].T)[:9, 9:]
        assert np.abs(c.numpy() - expected).max() < 1e-6


def test_no_site_is_touched_by_a_batch_that_is_refused():
    y, x = paired_streams(3, 100, 4, 4)
    m = SiteMoments((0, 5, 30), 4, 4)
    m.update(y, x)
    before = m.comoment.clone()
    bad = x.clone()
    bad[2, 70, 1] = float("inf")
    message = r"batch 1 .*: source holds inf at site 30, counted token 70, coordinate 1"
    with pytest.raises(ValueError, match=message):
        m.update(y, bad)
    assert m.count == 100
    assert torch.equal(m.comoment, before)


def test_merging_adds_every_site():
    y, x = paired_streams(2, 300, 4, 3)
    whole, a, b = (SiteMoments((0, 1), 4, 3) for _ in range(3))
    whole.update(y, x)
    a.update(y[:, :100], x[:, :100])
    b.update(y[:, 100:], x[:, 100:])
    a.merge(b)
    assert a.count == 300
    for s in range(2):
        assert (a.correlation(s) - whole.correlation(s)).abs().max() < 1e-6


def test_bad_input_is_refused():
    m = SiteMoments((0, 1), 4, 4)
    y, x = paired_streams(3, 10, 4, 4)
    with pytest.raises(ValueError, match="target must have 2 sites along its first dimension"):
        m.update(y, x)
    with pytest.raises(ValueError, match="sites must name at least one"):
        SiteMoments((), 4, 4)


def test_a_chunk_unlike_the_rest_of_its_batch_keeps_its_precision(monkeypatch):
    """Tokens that the pilot does not see, with means of their own."""
    monkeypatch.setattr(chunks, "CHUNK_TOKENS", 64)
    y, x = paired_streams(2, 1000, 4, 3)
    x[0, 960:, 1] += 3e4  # the last chunk, which is shorter, of one site, the first of the next
    x[1, :64, 1] += 3e4
    y[:, 512:576, 2] = 1 / 3  # a constant, within this chunk alone
    m = SiteMoments((0, 1), 4, 3)
    m.update(y, x)
    for s in range(2):
        expected = np.corrcoef(y[s].double().T, x[s].double().T)[:4, 4:]
        assert np.abs(m.correlation(s).numpy() - expected).max() < 1e-6


def test_the_pilot_is_no_comb():
    """Sequences of 256 tokens with a sink at the start of each: few pilot tokens are sinks."""
    for tokens in (512, 8192, 32_768):
        pilot = reference.pilot_tokens(tokens, None, 32, torch.device("cpu"))
        assert int((pilot % 256 == 0).sum()) <= 1
    mask = torch.arange(8192) % 3 == 1
    pilot = reference.pilot_tokens(8192, mask, 32, torch.device("cpu"))
    assert mask[pilot].all()
    assert len(pilot.unique()) == len(pilot)


def test_negated_views_are_read_as_they_read():
    """Tensors whose memory holds the numbers with the other sign."""
    y, x = paired_streams(1, 100, 3, 3)
    negated = torch.complex(torch.zeros_like(x), -x).conj().imag
    assert negated.is_neg()
    both = [SiteMoments((0,), 3, 3) for _ in range(2)]
    both[0].update(y, x)
    both[1].update(y, negated)
    assert torch.equal(both[0].correlation(0), both[1].correlation(0))


def test_the_memory_stated_holds_the_statistics():
    cpu = torch.device("cpu")
    m = SiteMoments(range(5), 40, 30)
    held = sum(
        v.nbytes
        for v in (m.comoment, m.target_mean, m.source_mean, m.target_square, m.source_square)
    )
    assert moments_bytes(5, 40, 30, 0, cpu) == held + 4 * 40 * 30  # and one product
    assert moments_bytes(5, 40, 30, 512, cpu) > moments_bytes(5, 40, 30, 256, cpu)
    # However long the batch, the workspace is a chunk: only sums grow.
    per_chunk = 16 * 5 * (40 + 30)
    long, longer = (moments_bytes(5, 40, 30, k * chunks.CHUNK_TOKENS, cpu) for k in (4, 9))
    assert longer - long == 5 * per_chunk
