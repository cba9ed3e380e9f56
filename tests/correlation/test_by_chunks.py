"""Batches that are added chunk by chunk, and the memory it takes."""

from __future__ import annotations

import numpy as np
from correlated import paired_at_sites

from bmatch.correlation import chunks
from bmatch.correlation.by_chunks import update_bytes
from bmatch.correlation.chunks import CHUNK_TOKENS
from bmatch.correlation.site_moments import SiteMoments


def test_a_chunk_unlike_the_rest_of_its_batch_keeps_its_precision(monkeypatch):
    """Tokens that the pilot does not see, with means of their own."""
    monkeypatch.setattr(chunks, "CHUNK_TOKENS", 64)
    y, x = paired_at_sites(2, 1000, 4, 3)
    x[0, 960:, 1] += 3e4  # the last chunk, which is shorter, of one site, the first of the next
    x[1, :64, 1] += 3e4
    y[:, 512:576, 2] = 1 / 3  # a constant, within this chunk alone
    m = SiteMoments((0, 1), 4, 3)
    m.update(y, x)
    for s in range(2):
        expected = np.corrcoef(y[s].double().T, x[s].double().T)[:4, 4:]
        assert np.abs(m.correlation(s).numpy() - expected).max() < 1e-6


def test_however_long_a_batch_only_sums_grow_with_it():
    for tokens in (512, 256, 0):
        assert update_bytes(5, 40, 30, tokens + 1) > update_bytes(5, 40, 30, tokens)
    long, longer = (update_bytes(5, 40, 30, k * CHUNK_TOKENS) for k in (4, 9))
    assert longer - long == 5 * 16 * 5 * (40 + 30)
