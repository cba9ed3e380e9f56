"""The verdict on pairs of tiny models whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import VOCABULARY, in_gauge, noisy_copy, tiny_model

import bmatch
from bmatch.verdict.calibration import FEATURES, coefficients, probability
from bmatch.verdict.verdict import sentence

SECRET = bmatch.SignedPermutation.random(32, seed=3)


def batches(tokens):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(VOCABULARY, (4, tokens // 4 + 1), generator=generator)]


def judged(target, source, tokens=512, **options):
    return bmatch.estimate_gauge(target, source, batches(tokens), **options)


def test_kin_are_related_and_strangers_are_not():
    source = tiny_model()
    kin = judged(in_gauge(noisy_copy(source, 0.2, 1), SECRET), source)
    assert kin.gauge.to(None) == SECRET
    assert kin.verdict == "related"
    assert kin.expected_recovered > 0.9
    assert kin.probability.shape == (32,)
    assert kin.gauge.metadata["verdict"] == "related"
    assert float(kin.gauge.metadata["expected_recovered"]) == pytest.approx(
        kin.expected_recovered, abs=1e-4
    )
    assert sentence(kin).startswith("related: ")
    stranger = judged(in_gauge(tiny_model(seed=5), SECRET), source)
    assert stranger.verdict == "not related"
    assert stranger.expected_recovered < 0.1
    assert sentence(stranger).startswith("not related: no gauge relates the two models")


def test_kin_of_which_a_few_tokens_tell_nothing():
    source = tiny_model()
    few = judged(in_gauge(noisy_copy(source, 1.0, 1), SECRET), source, 12)
    assert few.gauge.to(None).agreement(SECRET) < 0.5
    assert few.verdict == "too few tokens"
    assert sentence(few).startswith("too few tokens: ")


def test_the_witness_may_be_left_out_and_weights_may_speak_alone():
    source = tiny_model()
    target = in_gauge(noisy_copy(source, 0.2, 1), SECRET)
    alone = judged(target, source, witness=False)
    assert "witness" not in alone.gauge.metadata
    assert alone.verdict == "related"
    weights = bmatch.estimate_gauge(target, source, evidence="weights")
    assert weights.verdict == "related"
    assert "decoys" not in weights.gauge.metadata
    assert bmatch.match(np.eye(4)).verdict is None


def test_the_calibration_rises_with_every_witness():
    """Coefficients as they are shipped: more of any evidence makes a match no less likely."""
    content = coefficients()
    assert content["provenance"]["commit"]
    for kind, names in FEATURES.items():
        assert len(content[kind]) == len(names) + 1
        for name, slope in zip(names, content[kind][1:], strict=True):
            assert (slope <= 0) if name == "decoy" else (slope >= 0)
        least, most = (np.full((1, len(names)), level) for level in (0.0, 1.0))
        if "decoy" in names:
            place = names.index("decoy")
            least[0, place], most[0, place] = 1.0, 0.0
        least[0, 0], most[0, 0] = -4, 0
        assert probability(least, kind)[0] < 0.05
        assert probability(most, kind)[0] > 0.95
