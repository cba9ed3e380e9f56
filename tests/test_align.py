"""From two folders to a gauge: its provenance, what may differ, and what is refused beforehand."""

from __future__ import annotations

import torch
from tiny_models import WIDTH, load

from bmatch.align import align_checkpoints
from bmatch.estimate import correlate_streams, correlation_bytes
from bmatch.models.text import default_text, token_batches


def test_the_memory_stated_before_the_job(pair):
    """Statistics of all sites and one batch of both models' streams; two batches on a GPU."""
    cpu = torch.device("cpu")
    streams = 2 * 3 * 512 * WIDTH * 4
    stated = correlation_bytes(3, WIDTH, 512, cpu)
    assert stated > 8 * 3 * WIDTH**2 + streams
    assert correlation_bytes(3, WIDTH, 1024, cpu) > stated + streams
    said = []
    a = align_checkpoints(*pair, tokens=600, tell=said.append)
    assert a.correlation_bytes == stated
    assert said == [
        f"moments of 3 sites and streams of 512 tokens a batch will take {stated / 1e6:,.1f} MB "
        "on cpu beside the models"
    ]


def test_align_checkpoints_recovers_the_secret_with_provenance(pair, secret, tokenizer):
    a = align_checkpoints(*pair, tokens=1000)
    assert a.gauge == secret
    meta = a.gauge.metadata
    assert (meta["source"], meta["target"]) == ("source", "target")
    assert meta["tokens"] == "1000"
    assert len(meta["source_sha256"]) == 64
    assert meta["source_sha256"] != meta["target_sha256"]
    models = [load(folder) for folder in pair]
    batches = token_batches(tokenizer, default_text(), 1000)
    direct = correlate_streams(models[1], models[0], batches)
    assert torch.equal(direct.correlation, a.streams.correlation)
