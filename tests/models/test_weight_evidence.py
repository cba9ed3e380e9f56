"""The gauge from weights alone: planted gauges, rows in other orders, what is left out."""

from __future__ import annotations

import pytest
import torch
from tiny_models import in_gauge, noisy_copy, tiny_model

import bmatch
from bmatch.models.checkpoint import open_checkpoint
from bmatch.models.weight_evidence import correlate_weights


def test_the_core_recovers_a_planted_gauge(tmp_path):
    """From models and from folders, to the bit, at weight noise as large as the weights."""
    source = tiny_model("llama")
    secret = bmatch.SignedPermutation.random(source.config.hidden_size, seed=3)
    target = in_gauge(noisy_copy(source, 1.0, 1), secret)
    found = correlate_weights(target, source)
    assert bmatch.match(found.correlation).gauge == secret
    source.save_pretrained(tmp_path / "source")
    target.save_pretrained(tmp_path / "target")
    again = correlate_weights(*(open_checkpoint(tmp_path / n) for n in ("target", "source")))
    assert torch.equal(again.correlation, found.correlation)
    with pytest.raises(ValueError, match="rows must be one of auto, all; got 'some'"):
        correlate_weights(target, source, rows="some")
