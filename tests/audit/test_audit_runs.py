"""Claims carried between two models in a planted gauge."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import VOCABULARY, WIDTH, in_gauge, noisy_copy, tiny_model

import bmatch
from bmatch.audit import Fidelity, Recipe, Share, fidelity

IDS = torch.randint(VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(5))
PAIRS = Recipe("activation", 6, items="sign", sites=(1,), batches=[IDS])


def half_right(truth):
    """Right in all but the first half of the target's coordinates, which are turned round."""
    sign = truth.sign.copy()
    sign[: WIDTH // 2] *= -1
    return bmatch.SignedPermutation(truth.perm, sign)


def test_fidelity_is_the_gauges_and_native_agreement_the_models():
    truth = bmatch.SignedPermutation.random(WIDTH, seed=3)
    source = tiny_model()
    same = in_gauge(source, truth)
    assert fidelity(PAIRS, source, same, truth, truth) == Fidelity(Share(6, 6), Share(6, 6))
    other = in_gauge(noisy_copy(source, 0.5, 1), truth)
    wrong = half_right(truth)
    found = fidelity(PAIRS, source, other, wrong, truth)
    here = PAIRS(source)
    places = [next(i for i in range(WIDTH) if truth.perm[i] == k) for k in here.index.ravel()]
    kept = sum(place >= WIDTH // 2 for place in places)
    assert found.fidelity == Share(kept, 6)
    there = PAIRS(other)
    pairs = set(zip(there.index.ravel().tolist(), there.sign.tolist(), strict=True))
    carried = [(p, int(s * truth.sign[p])) for p, s in zip(places, here.sign, strict=True)]
    assert found.native == Share(sum(pair in pairs for pair in carried), 6)


def test_without_the_truth_native_agreement_alone():
    gauge = bmatch.SignedPermutation.random(WIDTH, seed=3)
    source = tiny_model()
    found = fidelity(PAIRS, source, in_gauge(source, gauge), gauge)
    assert found == Fidelity(None, Share(6, 6))
    both = found + Fidelity(Share(1, 2), Share(0, 4))
    assert both == Fidelity(None, Share(6, 10))


def test_bad_input():
    gauge = bmatch.SignedPermutation.identity(WIDTH)
    model = tiny_model()
    with pytest.raises(ValueError, match="those of one model"):
        fidelity(Recipe(np.ones(WIDTH), signed=True), model, model, gauge)
    with pytest.raises(ValueError, match="act on 32 and 5"):
        fidelity(PAIRS, model, model, gauge, bmatch.SignedPermutation.identity(5))
