"""What strangers come to: shares against the laws they estimate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import isotonic_regression

from bmatch.features import strangers


def drawn(n, k, seed, factor=None):
    rows = torch.randn(n, k, generator=torch.Generator().manual_seed(seed))
    return rows if factor is None else rows @ factor


def test_decoys_come_as_close_as_strangers_do():
    """Of a dictionary that lies mostly in a few directions, too."""
    factor = torch.diag(torch.cat([torch.full((4,), 5.0), torch.ones(44)]))
    for shape in (None, factor):
        target, source = drawn(1500, 48, 0, shape), drawn(2000, 48, 1, shape)
        seen = strangers.sample(target, source, False)
        assert len(seen.rows) == 1500
        np.testing.assert_allclose(
            np.quantile(seen.decoys, [0.1, 0.5, 0.9]),
            np.quantile(seen.closest[:, 0], [0.1, 0.5, 0.9]),
            atol=0.015,
        )


def test_few_rows_see_decoys_more_often():
    seen = strangers.sample(drawn(5, 16, 0), drawn(7, 16, 1), True)
    assert len(seen.decoys) >= 1000
    assert seen.closest.shape == (5, 7)
    assert np.all(seen.closest >= 0)


def test_the_level_that_leaves_so_many_neighbours():
    seen = strangers.sample(drawn(400, 8, 0), drawn(300, 8, 1), False)
    cosine = strangers.unit(drawn(400, 8, 0)) @ strangers.unit(drawn(300, 8, 1)).T
    assert (cosine > seen.level(20)).sum().item() == pytest.approx(400 * 20, rel=0.01)
    assert seen.level(300) == -1.0


def test_chances_of_normal_numbers():
    from scipy.stats import norm

    values = np.random.default_rng(0).normal(size=20000)
    at = np.array([-1.0, 0.0, 1.0, 2.0, 3.0])
    found = strangers.exceeding(values, at)
    np.testing.assert_allclose(found[:4], norm.sf(at[:4]), rtol=0.1)
    far = strangers.exceeding(values, np.array([3.5, 5.0]))
    assert np.all(far > norm.sf([3.5, 5.0]))  # an exponential falls off more slowly
    assert far[1] < 1e-4


def test_chances_beyond_nothing_and_beyond_one_value():
    assert not strangers.exceeding(np.empty(0), np.array([0.5])).any()
    found = strangers.exceeding(np.array([0.5]), np.array([0.4, 0.5, 0.6]))
    assert found[0] == found[1] == 1
    assert found[2] < 1e-9


def test_local_shares_are_isotonic_regressions():
    r = np.random.default_rng(1)
    for size in (0, 1, 7, 300):
        false = np.cumsum(np.sort(r.random(size) ** 2) * r.random(size))
        expected = isotonic_regression(np.diff(false, prepend=0.0)).x if size else []
        np.testing.assert_allclose(strangers.local_shares(false), expected, atol=1e-12)
