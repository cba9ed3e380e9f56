"""Sketches of activations against correlations of all tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import bmatch
from bmatch.features import ActivationSketch


def activations(tokens, features, seed):
    """As those of sparse autoencoders: mostly nothing, at times a lot."""
    r = np.random.default_rng(seed)
    return r.exponential(size=(tokens, features)) * (r.random((tokens, features)) < 0.05)


def test_partners_are_found_by_what_they_did():
    seen = activations(6000, 400, 0)
    r = np.random.default_rng(1)
    order = r.permutation(400)
    other = np.maximum(
        seen[:, order] * r.uniform(0.5, 20, 400) + 0.05 * r.normal(size=(6000, 400)), 0
    )
    other[:, :100] = activations(6000, 100, 2)  # features that the target has not
    sketches = [ActivationSketch(400), ActivationSketch(400)]
    for start in range(0, 6000, 1500):
        for sketch, part in zip(sketches, (seen, other), strict=True):
            sketch.update(part[start : start + 1500])
    found = bmatch.match_features(*(sketch.directions() for sketch in sketches))
    right = order[found.source_ind] == found.target_ind
    assert right.sum() >= 297
    assert (~right).sum() <= 3


def test_inner_products_are_correlations_within_the_bound():
    seen = torch.from_numpy(activations(5000, 60, 3))
    seen[:, 1] = 2 * seen[:, 0] + 0.3 * seen[:, 1]
    sketch = ActivationSketch(60, terms=4096)
    sketch.update(seen)
    rows = torch.nn.functional.normalize(sketch.directions(), dim=1)
    error = (rows @ rows.T - torch.corrcoef(seen.T)).fill_diagonal_(0)
    assert error.square().mean().sqrt() < 2 / 64
    assert sketch.tokens == 5000


def test_batches_may_be_cut_anywhere():
    seen = torch.from_numpy(activations(300, 20, 4))
    whole, parts = ActivationSketch(20, 64), ActivationSketch(20, 64)
    whole.update(seen)
    for part in seen.split([1, 2, 130, 167]):
        parts.update(part)
    torch.testing.assert_close(whole.directions(), parts.directions(), rtol=1e-6, atol=1e-6)


def test_dead_and_constant_features_have_no_direction():
    seen = torch.rand(1000, 3, dtype=torch.float64)
    seen[:, 0], seen[:, 1] = 0.0, 0.1
    sketch = ActivationSketch(3, 64)
    sketch.update(seen)
    rows = sketch.directions()
    assert not rows[:2].any()
    assert rows[2].any()


def test_what_a_sketch_refuses():
    for sizes in ((0, 64), (3, 0), (3, 48)):
        with pytest.raises(ValueError, match="a power of two of terms"):
            ActivationSketch(*sizes)
    sketch = ActivationSketch(3)
    with pytest.raises(ValueError, match=r"must be \[tokens, 3\], got shape \(2, 4\)"):
        sketch.update(np.ones((2, 4)))
    with pytest.raises(ValueError, match="from token 0 on are not finite"):
        sketch.update([[1.0, float("inf"), 0.0]])
