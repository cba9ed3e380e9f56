"""Moments of many sites against single ones, and the memory stated."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from correlated import paired_at_sites

from bmatch import CrossMoments
from bmatch.correlation.by_chunks import update_bytes
from bmatch.correlation.site_moments import SiteMoments, moments_bytes
from bmatch.correlation.statistics import statistics_bytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_sites_are_moments_of_their_own_to_the_bit(dtype):
    y, x = (v.to(dtype) for v in paired_at_sites(3, 600, 9, 7))
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
    y, x = paired_at_sites(3, 100, 4, 4)
    m = SiteMoments((0, 5, 30), 4, 4)
    m.update(y, x)
    before = m.statistics.comoment.clone()
    bad = x.clone()
    bad[2, 70, 1] = float("inf")
    message = r"batch 1 .*: source holds inf at site 30, counted token 70, coordinate 1"
    with pytest.raises(ValueError, match=message):
        m.update(y, bad)
    assert m.count == 100
    assert torch.equal(m.statistics.comoment, before)


def test_merging_adds_every_site():
    y, x = paired_at_sites(2, 300, 4, 3)
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
    y, x = paired_at_sites(3, 10, 4, 4)
    with pytest.raises(ValueError, match="target must have 2 sites along its first dimension"):
        m.update(y, x)
    with pytest.raises(ValueError, match="sites must name at least one"):
        SiteMoments((), 4, 4)


def test_negated_views_are_read_as_they_read():
    """Tensors whose memory holds the numbers with the other sign."""
    y, x = paired_at_sites(1, 100, 3, 3)
    negated = torch.complex(torch.zeros_like(x), -x).conj().imag
    assert negated.is_neg()
    both = [SiteMoments((0,), 3, 3) for _ in range(2)]
    both[0].update(y, x)
    both[1].update(y, negated)
    assert torch.equal(both[0].correlation(0), both[1].correlation(0))


def test_the_memory_stated_is_that_of_statistics_and_an_update():
    cpu = torch.device("cpu")
    held = statistics_bytes(5, 40, 30)
    assert moments_bytes(5, 40, 30, 0, cpu) == held + 4 * 40 * 30  # and one product
    for tokens in (512, 70_000):
        update = update_bytes(5, 40, 30, tokens)
        assert moments_bytes(5, 40, 30, tokens, cpu) == held + update
