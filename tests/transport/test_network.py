"""State dicts under gauges of all spaces."""

from __future__ import annotations

import copy

import pytest
import torch
from networks import network

from bmatch.network_gauge import NetworkGauge
from bmatch.transport import network_state_dict


def test_the_function_stays_and_every_bit_comes_back():
    model, inputs, axes = network("gemma2")  # whose embeddings are tied
    weights = model.state_dict()
    before = {name: tensor.clone() for name, tensor in weights.items()}
    gauge = NetworkGauge.random(axes, 3)
    moved = network_state_dict(weights, gauge, axes)
    head, embedding = moved["lm_head.weight"], moved["model.embed_tokens.weight"]
    assert head is embedding
    assert not torch.equal(embedding, weights["model.embed_tokens.weight"])
    other = copy.deepcopy(model)
    other.load_state_dict(moved)
    with torch.no_grad():
        one, two = model(**inputs).logits, other(**inputs).logits
    assert (one - two).abs().max() < 1e-4 * one.abs().max()
    back = network_state_dict(moved, gauge.inverse(), axes)
    assert all(torch.equal(back[name], tensor) for name, tensor in before.items())
    assert all(torch.equal(weights[name], tensor) for name, tensor in before.items())


def test_missing_tensors_are_named():
    model, _, axes = network("gemma2")
    weights = model.state_dict()
    del weights["model.norm.weight"]
    with pytest.raises(ValueError, match=r"1 tensors are missing: model\.norm\.weight"):
        network_state_dict(weights, NetworkGauge.identity(axes), axes)
