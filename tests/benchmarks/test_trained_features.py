"""benchmarks/features.py: one dictionary under two gauges, held against itself."""

from __future__ import annotations

import numpy as np
import torch

import bmatch
from benchmarks import features
from benchmarks.peers import OURS

COUNT, WIDTH, TOKENS = 60, 48, 400


def test_all_of_a_dictionary_is_found_under_another_gauge_once_it_is_carried():
    generator = torch.Generator().manual_seed(0)
    decoder, encoder = (torch.randn(COUNT, WIDTH, generator=generator) for _ in "de")
    activations = torch.rand(TOKENS, COUNT, generator=generator)
    one = features.Trained(decoder, encoder, activations)
    cases = features.two_gauges(one, bmatch.SignedPermutation.random(WIDTH, seed=1))
    correlation = features.correlations(activations, activations)
    told = {
        (case, provider): (pairs, figures)
        for case, provider, pairs, figures in features.compared(
            cases, correlation, np.arange(COUNT)
        )
    }
    assert len(cases) == 3
    for (case, _), (pairs, figures) in told.items():
        carried = "not carried" not in case
        assert figures["same"] == COUNT * carried
        assert figures["confirmed"] == COUNT * carried
        assert pairs == COUNT * carried
    assert {provider for _, provider in told} == {OURS, features.NEAREST}
