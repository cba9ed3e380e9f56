"""Means, squares and comoments that move and merge, against float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bmatch.correlation.products import add_outer
from bmatch.correlation.statistics import CentredSums, Statistics, statistics_bytes

NAMES = ("comoment", "target_mean", "source_mean", "target_square", "source_square")


def sums_about(values, centre):
    """What tokens [S, N, D] are told as, about any centre [S, D]."""
    square = (values - values.mean(1, keepdim=True)).square().sum(1)
    return CentredSums(centre, (values - centre[:, None]).sum(1), square)


def add(statistics, y, x, g):
    """Add tokens about centres that are not their means."""
    centres = [torch.randn(v.shape[0], v.shape[2], generator=g, dtype=v.dtype) for v in (y, x)]
    parts = [sums_about(v, c) for v, c in zip((y, x), centres, strict=True)]
    products = (y - centres[0][:, None]).mT @ (x - centres[1][:, None])
    factors = statistics.move(slice(None), statistics.count, y.shape[1], *parts)
    statistics.comoment += products
    add_outer(statistics.comoment, *factors)
    statistics.count += y.shape[1]


def drawn(tokens, seed):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(2, tokens, d, generator=g, dtype=torch.float64) + d for d in (4, 3)]


def assert_those_of(statistics, y, x):
    dy, dx = (v - v.mean(1, keepdim=True) for v in (y, x))
    expected = (dy.mT @ dx, y.mean(1), x.mean(1), dy.square().sum(1), dx.square().sum(1))
    assert statistics.count == y.shape[1]
    for name, value in zip(NAMES, expected, strict=True):
        assert (getattr(statistics, name) - value).abs().max() < 1e-10


def test_tokens_about_any_centre_move_means_squares_and_comoments():
    y, x = drawn(300, 0)
    statistics = Statistics(2, 4, 3)
    for part in (slice(0, 1), slice(1, 200), slice(200, 300)):
        add(statistics, y[:, part], x[:, part], torch.Generator().manual_seed(1))
    assert_those_of(statistics, y, x)


def test_merging_is_adding_the_tokens_of_the_other():
    y, x = drawn(300, 0)
    a, b, empty = (Statistics(2, 4, 3) for _ in range(3))
    g = torch.Generator().manual_seed(1)
    add(a, y[:, :120], x[:, :120], g)
    add(b, y[:, 120:], x[:, 120:], g)
    before = [getattr(b, name).clone() for name in NAMES]
    a.merge(b)
    a.merge(empty)
    assert_those_of(a, y, x)
    assert b.count == 180
    assert all(torch.equal(getattr(b, n), v) for n, v in zip(NAMES, before, strict=True))
    empty.merge(a)
    assert_those_of(empty, y, x)


def test_scales_make_comoments_correlations_and_are_zero_for_constants():
    y, x = drawn(300, 0)
    y[1, :, 2] = 0.1
    statistics = Statistics(2, 4, 3)
    add(statistics, y, x, torch.Generator().manual_seed(1))
    for s in range(2):
        target, source = statistics.scales(s)
        found = statistics.comoment[s] * target[:, None] * source
        with np.errstate(invalid="ignore", divide="ignore"):
            expected = np.corrcoef(y[s].T, x[s].T)[:4, 4:]
        expected[np.isnan(expected)] = 0.0
        assert np.abs(found.numpy() - expected).max() < 1e-12
    assert target[2] == 0.0


def test_too_few_tokens_and_overflow_are_told():
    statistics = Statistics(1, 2, 2)
    with pytest.raises(ValueError, match="at least 2 tokens, and 0 have been counted"):
        statistics.scales(0)
    statistics.count = 2
    statistics.source_square[0, 1] = torch.inf
    with pytest.raises(ValueError, match="the moments overflowed float64"):
        statistics.scales(0)


def test_made_under_inference_mode_they_can_be_updated_in_any():
    with torch.inference_mode():
        statistics = Statistics(2, 4, 3)
        add(statistics, *drawn(10, 0), torch.Generator().manual_seed(1))
    add(statistics, *drawn(10, 1), torch.Generator().manual_seed(1))
    assert statistics.count == 20


def test_the_memory_stated_is_what_they_hold():
    statistics = Statistics(5, 40, 30)
    held = sum(getattr(statistics, name).nbytes for name in NAMES)
    assert statistics_bytes(5, 40, 30) == held
