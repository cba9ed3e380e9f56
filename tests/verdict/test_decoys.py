"""Decoys take rows without a partner half of the time, and no others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bmatch.correlation.site_moments import SiteMoments
from bmatch.verdict.decoys import RotatedSource, recovered, taken


def streams(kin, sites=2, tokens=800, d=60, seed=0):
    """Target coordinates of which the first `kin` have partners; sites at other scales."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(sites, tokens, d, generator=generator)
    y = torch.randn(sites, tokens, d, generator=generator)
    y[..., :kin] = x[..., :kin] + y[..., :kin]
    return y * torch.tensor([1.0, 30.0])[:, None, None], x * torch.linspace(0.1, 9, d)


def test_the_correlation_with_decoys_is_that_of_rotated_coordinates():
    """Against float64 correlations of the mixtures themselves, made with the same rotation."""
    y, x = streams(20)
    rotated, moments = RotatedSource(60), SiteMoments((0, 1), 60, 60)
    every = torch.arange(900) % 9 > 0  # 800 of them
    spaced = torch.zeros(2, 900, 60)
    spaced[:, every] = x
    for part in (slice(0, 500), slice(500, 900)):
        rotated.update(spaced[:, part], every[part])
    moments.update(y, x)
    mixture = rotated._mixture.double()
    assert torch.allclose(mixture.T @ mixture, torch.eye(60).double(), atol=1e-6)
    exact = 0
    for s in range(2):
        spread = x[s, : int(every[:500].sum())].double().std(0, correction=0)
        mixed = (x[s].double() / spread) @ mixture
        exact = exact + np.corrcoef(y[s].T, mixed.T)[:60, 60:] / 2
    assert np.abs(rotated.correlation(moments).numpy() - exact).max() < 1e-5


@pytest.mark.parametrize("kin", [0, 30, 60])
def test_the_share_that_decoys_take_tells_how_many_have_a_partner(kin):
    estimates = []
    for seed in range(4):
        y, x = streams(kin, seed=seed)
        rotated, moments = RotatedSource(60, seed=seed), SiteMoments((0, 1), 60, 60)
        rotated.update(x, torch.ones(800, dtype=torch.bool))
        moments.update(y, x)
        correlation = ((moments.correlation(0) + moments.correlation(1)) / 2).numpy()
        decoys = rotated.correlation(moments).numpy()
        estimates.append(recovered(taken(correlation, decoys, "signed_permutation").mean()))
    assert abs(np.mean(estimates) - kin / 60) < 0.12


def test_without_signs_the_sign_of_all_is_taken():
    true, decoys = -0.9 * np.eye(5, dtype=np.float32), 0.1 * np.eye(5, dtype=np.float32)
    assert not taken(true, decoys, "permutation_global_sign").any()
    assert taken(true, decoys, "permutation").all()
    assert not taken(true, decoys, "signed_permutation").any()
    assert recovered(0.0) == 1.0
    assert recovered(0.5) == recovered(1.0) == 0.0
