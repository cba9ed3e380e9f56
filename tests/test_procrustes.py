"""Orthogonal gauges from activations: planted rotations of models with flat gains."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from tiny_models import WIDTH, in_gauge, logits, noisy_copy, tiny_model

import bmatch
from bmatch import CrossMoments, OrthogonalGauge, SignedPermutation, match_orthogonal
from bmatch.architecture import residual_axes
from bmatch.streams import correlate_streams


def flat_model(**overrides):
    model = tiny_model(**overrides)
    axes = residual_axes(model)
    with torch.no_grad():
        for k, (name, p) in enumerate(model.named_parameters()):
            if axes.rule(name).role == "gain":
                p.fill_(1.0 - 0.01 * k)
    return model


def batches(count=4):
    g = torch.Generator().manual_seed(0)
    return [torch.randint(300, (4, 64), generator=g) for _ in range(count)]


@pytest.mark.parametrize("tied", [True, False])
def test_a_planted_rotation_keeps_logits_and_is_recovered(tied):
    model = flat_model(tied=tied)
    truth = OrthogonalGauge.random(WIDTH, seed=2)
    rotated = in_gauge(model, truth)
    before, after = logits(model), logits(rotated)
    assert (before - after).abs().max() <= 1e-4 * before.abs().max()
    exact = bmatch.estimate_gauge(rotated, model, batches(), group="orthogonal")
    assert exact.gauge.distance(truth) < 1e-5
    assert exact.score == pytest.approx(1, abs=1e-5)
    assert exact.undetermined == 0
    assert exact.gauge.metadata["matched_group"] == "orthogonal"
    assert exact.gauge.metadata["sites"] == "0,1,2"
    noisy = in_gauge(noisy_copy(model, 0.1, 1), truth)
    close = bmatch.estimate_gauge(noisy, model, batches(), group="orthogonal")
    assert close.gauge.distance(truth) < 0.1
    signed = bmatch.estimate_gauge(noisy, model, batches())
    assert OrthogonalGauge(signed.gauge.matrix()).distance(truth) > 1


def test_generic_gains_are_refused_everywhere():
    model = tiny_model()
    rotation = OrthogonalGauge.random(WIDTH, seed=2)
    with pytest.raises(ValueError, match="gauge group of this llama is signed_permutation and not"):
        bmatch.estimate_gauge(model, model, batches(1), group="orthogonal")
    with pytest.raises(ValueError, match=r"norm\.weight: gains of shape \(32,\) differ"):
        in_gauge(model, rotation)
    with pytest.raises(ValueError, match="acts on 16 coordinates"):
        in_gauge(model, OrthogonalGauge.identity(16))
    with pytest.raises(ValueError, match="for that: OrthogonalGauge, match_orthogonal"):
        bmatch.match(np.eye(3), group="orthogonal")
    # What is a signed permutation is one, however it is held.
    signed = SignedPermutation.random(WIDTH, seed=0)
    held = in_gauge(model, OrthogonalGauge(signed.matrix())).state_dict()
    for name, tensor in in_gauge(model, signed).state_dict().items():
        assert torch.equal(held[name], tensor), name


def test_the_cross_covariance_is_what_numpy_computes():
    rng = np.random.default_rng(0)
    y, x = rng.standard_normal((2, 500, 6)) + rng.standard_normal((2, 1, 6)) * 5
    moments = CrossMoments(6, 6)
    for part in (slice(0, 200), slice(200, 500)):
        moments.update(y[part], x[part])
    exact = np.cov(y.T, x.T, bias=True)[:6, 6:]
    assert np.abs(moments.cross_covariance().numpy() - exact).max() < 1e-5
    with pytest.raises(ValueError, match="at least 1 token"):
        CrossMoments(2, 2).cross_covariance()


def test_the_cross_covariance_turns_with_the_streams():
    """And the correlation does not: its polar factor is another matrix, without any noise."""
    model = flat_model()
    g, h = OrthogonalGauge.random(WIDTH, seed=1), OrthogonalGauge.random(WIDTH, seed=2)
    plain = correlate_streams(model, model, batches(2))
    moved = correlate_streams(in_gauge(model, g), in_gauge(model, h), batches(2))
    expected = g.apply(h.apply(plain.cross_covariance, dim=1), dim=0)
    scale = plain.cross_covariance.abs().max()
    assert (moved.cross_covariance - expected).abs().max() < 1e-5 * scale
    truth = g @ h.inverse()
    assert match_orthogonal(moved.cross_covariance).gauge.distance(truth) < 1e-5
    assert match_orthogonal(moved.correlation).gauge.distance(truth) > 1e-2


def test_least_squares_under_noise():
    """Against SciPy's solver; what is not determined is told."""
    rng = np.random.default_rng(0)
    truth = OrthogonalGauge.random(8, seed=0)
    x = rng.standard_normal((400, 8)) * np.linspace(0.5, 2, 8)
    y = truth.apply(x) + 0.1 * rng.standard_normal((400, 8))
    m = match_orthogonal(y.T @ x / 400)
    assert np.allclose(m.gauge.matrix(), scipy.linalg.orthogonal_procrustes(x, y)[0].T)
    assert m.gauge.distance(truth) < 0.05
    left = ((y - m.gauge.apply(x)) ** 2).sum() / 400
    assert left == pytest.approx((y**2).sum() / 400 + (x**2).sum() / 400 - 16 * m.score)
    x[:, :3] = 0
    assert match_orthogonal(truth.apply(x).T @ x).undetermined == 3


@pytest.mark.parametrize("sign", [1, -1])
def test_with_the_ones_vector_fixed(sign):
    truth = OrthogonalGauge(sign * OrthogonalGauge.random(9, seed=1, fix_ones=True).matrix())
    x = np.random.default_rng(0).standard_normal((300, 9)) + 1
    y = truth.apply(x) + 0.1 * np.random.default_rng(1).standard_normal((300, 9))
    moment = torch.from_numpy(y.T @ x / 300)
    found = match_orthogonal(moment, fix_ones=True).gauge
    assert found.fixes_ones
    assert found.distance(truth) < 0.05
    assert not match_orthogonal(moment).gauge.fixes_ones
    assert found.matrix(torch.float64).dtype == torch.float64
