"""Blocks of the stream: what they add sums to the whole, and what draws of them keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import bmatch
from bmatch.verdict.bootstrap import BLOCKS, TokenBlocks, agreement


def streamed(y, x, batch, counted=None):
    """The blocks of a stream that comes in batches."""
    blocks = TokenBlocks()
    moments = bmatch.CrossMoments(y.shape[1], x.shape[1])
    counted = torch.ones(len(y), dtype=torch.bool) if counted is None else counted
    for start in range(0, len(y), batch):
        ours, theirs = y[start : start + batch], x[start : start + batch]
        mask = counted[start : start + batch]
        for part in blocks.parts(mask):
            moments.update(ours[part], theirs[part], mask[part])
            if blocks.full:
                blocks.end(moments.correlation())
    blocks.end(moments.correlation())
    return blocks, moments.correlation()


def pair(tokens, noise, d=24):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, d, generator=generator)
    secret = bmatch.SignedPermutation.random(d, seed=1)
    y = torch.as_tensor(secret.apply(x.numpy()))
    return y + noise * torch.randn(tokens, d, generator=generator), x, secret


@pytest.mark.parametrize(("tokens", "batch"), [(40, 40), (400, 400), (3000, 100), (3000, 3000)])
def test_there_are_enough_blocks_of_any_stream(tokens, batch):
    y, x, _ = pair(tokens, 0.5)
    blocks, correlation = streamed(y, x, batch)
    assert blocks.tokens[-1] == tokens
    assert torch.equal(blocks.correlations[-1], correlation)
    least = min(BLOCKS, tokens // 8)
    assert least <= len(blocks.tokens) < 2 * BLOCKS
    sizes = np.diff([0, *blocks.tokens])
    assert sizes[:-1].max() <= 2 * sizes[:-1].min()


def test_tokens_that_do_not_count_are_in_no_block():
    y, x, _ = pair(600, 0.5)
    counted = torch.arange(600) % 3 > 0
    blocks, _ = streamed(y, x, 100, counted)
    assert blocks.tokens[-1] == 400


def test_a_draw_is_near_the_correlation_of_the_tokens_drawn():
    """Against the correlation of the concatenated tokens, by NumPy."""
    y, x, _ = pair(1600, 0.5)
    blocks, _ = streamed(y, x, 1600)
    drawn = blocks.resampled(np.random.default_rng(3))
    ends = [0, *blocks.tokens]
    count = len(blocks.tokens)
    chosen = np.random.default_rng(3).integers(0, count, count)
    rows = np.concatenate([np.arange(ends[k], ends[k + 1]) for k in chosen])
    exact = np.corrcoef(y.numpy()[rows].T, x.numpy()[rows].T)[:24, 24:]
    assert np.abs(drawn - exact).max() < 0.05
    assert np.abs(drawn - blocks.correlations[-1].numpy()).max() > 0.03


def test_matches_stay_where_tokens_tell_and_change_where_they_do_not():
    found = {}
    for noise in (0.3, 8.0):
        y, x, secret = pair(400, noise)
        blocks, correlation = streamed(y, x, 400)
        gauge = bmatch.match(correlation).gauge
        found[noise] = agreement(blocks, gauge, "signed_permutation").mean()
        if noise < 1:
            assert gauge.to(None) == secret
    assert found[0.3] == 1.0
    assert found[8.0] < 0.6
    few, _ = streamed(y[:7], x[:7], 7)
    assert agreement(few, gauge, "signed_permutation") is None
