"""The gauge from weights alone: planted gauges, rows in other orders, what is left out."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import WIDTH, in_gauge, noisy_copy, tiny_model

import bmatch
from bmatch import SignedPermutation
from bmatch.models.checkpoint import Checkpoint, open_checkpoint
from bmatch.models.text import default_text
from bmatch.models.weight_evidence import (
    IncomparableWeightsError,
    correlate_weights,
    likeness_of_order,
    weights_if_comparable,
)


def renumbered(model, seed):
    """The same function with neurons and heads of every block in another order."""
    config, rng = model.config, np.random.default_rng(seed)
    heads, kv_heads, head = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    weights = dict(model.state_dict())
    for layer in range(config.num_hidden_layers):
        neurons = rng.permutation(config.intermediate_size)
        groups = np.roll(np.arange(kv_heads), 1)  # none stays where it was
        queries = groups[:, None] * (heads // kv_heads) + np.arange(heads // kv_heads)

        def entries(units, head=head):
            return torch.as_tensor((units.ravel()[:, None] * head + np.arange(head)).ravel())

        orders = {
            "q_proj": (entries(queries), 0),
            "k_proj": (entries(groups), 0),
            "v_proj": (entries(groups), 0),
            "o_proj": (entries(queries), 1),
            "gate_proj": (torch.as_tensor(neurons), 0),
            "up_proj": (torch.as_tensor(neurons), 0),
            "down_proj": (torch.as_tensor(neurons), 1),
        }
        for name, tensor in weights.items():
            part = name.split(".")[-2]
            if f"layers.{layer}." in name and part in orders:
                order, axis = orders[part]
                if tensor.ndim > axis:  # a bias of what writes the stream stays
                    weights[name] = tensor.index_select(axis, order)
    copy = type(model)(config)
    copy.load_state_dict(weights)
    return copy.eval()


def trained(model, text, steps, rate, seed):
    """After training on bytes of a text, in sequences of 32."""
    g = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), rate, (0.9, 0.95), weight_decay=0.1)
    for _ in range(steps):
        starts = torch.randint(len(text) - 32, (8,), generator=g)
        tokens = torch.stack([text[k : k + 32] for k in starts])
        optimizer.zero_grad()
        model(tokens, labels=tokens).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def as_bytes(text):
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long()


@pytest.fixture(scope="module")
def fine_tunes():
    """Two tiny models that were trained apart from one immature base, and text for them."""
    prose = as_bytes("".join(default_text())[:300_000])
    code = as_bytes("".join(p.read_text() for p in sorted(Path(os.__file__).parent.glob("a*.py"))))
    torch.manual_seed(0)
    options = {"vocab_size": 256, "attention_bias": False, "mlp_bias": False}
    config = tiny_model(**options).config
    base = trained(transformers.LlamaForCausalLM(config), torch.cat([prose, code]), 60, 3e-3, 0)
    apart = []
    for seed, text in enumerate((prose, code), start=1):
        model = transformers.LlamaForCausalLM(config)
        model.load_state_dict(base.state_dict())
        apart.append(trained(model, text, 120, 4e-3, seed))
    return (*apart, prose)


@pytest.fixture(scope="module")
def planted():
    return SignedPermutation.random(WIDTH, seed=3)


def test_fine_tunes_without_a_token(fine_tunes, planted):
    """Where activations of the end points are not enough."""
    source, target, text = fine_tunes
    target = in_gauge(target, planted)
    read = bmatch.estimate_gauge(target, source, [text[:64][None]], sites=[1])
    assert read.gauge.agreement(planted) < 0.9
    assert bmatch.estimate_gauge(target, source, evidence="weights").gauge == planted


def test_fine_tunes_whose_neurons_and_heads_are_numbered_anew(fine_tunes, planted):
    """The embedding alone is in order; Gram matrices of the others make margins wide again."""
    source, target, _ = fine_tunes
    target = in_gauge(renumbered(target, 0), planted)
    found = correlate_weights(target, source)
    assert "model.embed_tokens.weight" in found.tensors
    assert len(found.grams) > len(found.tensors)
    assert bmatch.match(found.correlation).gauge == planted


@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_weight_noise_as_large_as_the_weights(model_type, planted, tmp_path):
    """From models and from folders to the bit."""
    source = tiny_model(model_type)
    target = in_gauge(noisy_copy(source, 1.0, 1), planted)
    found = correlate_weights(target, source)
    assert bmatch.match(found.correlation).gauge == planted
    assert not found.left_out
    assert "lm_head.weight" not in found.tensors  # tied: the embedding once
    source.save_pretrained(tmp_path / "source", max_shard_size="20KB")
    target.save_pretrained(tmp_path / "target")
    again = correlate_weights(*(open_checkpoint(tmp_path / n) for n in ("target", "source")))
    assert torch.equal(again.correlation, found.correlation)
    assert (again.rows, again.tensors) == (found.rows, found.tensors)


def test_layernorm_models():
    config = transformers.GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=2)
    torch.manual_seed(0)
    source = transformers.GPT2LMHeadModel(config).eval()
    secret = SignedPermutation(np.random.default_rng(0).permutation(32), np.full(32, -1))
    target = in_gauge(noisy_copy(source, 0.5, 1), secret)
    result = bmatch.estimate_gauge(target, source, evidence="weights")
    assert result.group == "permutation_global_sign"
    assert result.gauge == secret


def test_the_correlation_beside_its_definition(planted):
    """Rows of all tensors about their means, at root mean square 1, whitened, in float64."""
    source = tiny_model(attention_bias=False, mlp_bias=False)
    target = in_gauge(noisy_copy(source, 0.5, 1), planted)
    found = correlate_weights(target, source, rows="all")
    white = []
    for model in (target, source):
        rows = []
        for name, tensor in sorted(model.named_parameters()):
            if tensor.ndim == 2:
                writes = "o_proj" in name or "down_proj" in name
                part = (tensor.T if writes else tensor).detach().double().numpy()
                part = part - part.mean(0)
                rows.append(part / np.sqrt(np.mean(part**2)))
        stacked = np.concatenate(rows)
        gram = stacked.T @ stacked
        ridge = 0.1 * np.trace(gram) / WIDTH * np.eye(WIDTH)
        stacked = stacked @ np.linalg.inv(scipy.linalg.sqrtm(gram + ridge).real)
        white.append(stacked / np.linalg.norm(stacked, axis=0))
    np.testing.assert_allclose(found.correlation, white[0].T @ white[1], atol=1e-5)
    assert found.rows == len(white[0])


def test_more_tokens_in_the_vocabulary(planted):
    source = tiny_model()
    target = noisy_copy(source, 0.5, 1)
    target.resize_token_embeddings(320)
    found = correlate_weights(in_gauge(target, planted), source)
    assert "model.embed_tokens.weight" in found.tensors
    assert bmatch.match(found.correlation).gauge == planted


def test_another_vocabulary(planted):
    """Its rows are no evidence, whatever their number; nothing is left where all are others."""
    source = tiny_model()
    target = noisy_copy(source, 0.5, 1)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:290]
    target.resize_token_embeddings(290)
    with torch.no_grad():
        target.model.embed_tokens.weight.copy_(source.model.embed_tokens.weight[order])
    found = correlate_weights(in_gauge(target, planted), source)
    assert "model.embed_tokens.weight" not in found.tensors
    assert bmatch.match(found.correlation).gauge == planted
    with pytest.raises(ValueError, match="no rows of weights come in one order in the two models"):
        correlate_weights(tiny_model(seed=1), source)


def test_blocks_at_equal_fractions_of_the_depths(planted):
    source = tiny_model(num_hidden_layers=3)
    target = tiny_model(num_hidden_layers=2)
    weights = {
        name: source.state_dict()[name.replace("layers.1.", "layers.2.")]
        for name in target.state_dict()
    }
    target.load_state_dict(weights)
    target = in_gauge(target, planted)
    assert bmatch.match(correlate_weights(target, source).correlation).gauge == planted
    back = correlate_weights(source, target)
    assert bmatch.match(back.correlation).gauge == planted.inverse()
    assert not any("layers.1." in name for name in back.tensors)


def test_one_block_each(planted):
    source = tiny_model(num_hidden_layers=1)
    found = correlate_weights(in_gauge(source, planted), source)
    assert bmatch.match(found.correlation).gauge == planted


def test_one_tensor_of_each_model_in_memory(pair, secret, monkeypatch):
    held: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = 0
    read = Checkpoint.tensor

    def watched(self, name):
        nonlocal most
        tensor = read(self, name)
        held.add(tensor)
        most = max(most, len(held))
        return tensor

    monkeypatch.setattr(Checkpoint, "tensor", watched)
    source, target = (open_checkpoint(folder) for folder in pair)
    found = correlate_weights(target, source)
    assert bmatch.match(found.correlation).gauge == secret
    assert most <= 4  # those of the turn before go when these come


def test_what_is_refused():
    source = tiny_model()
    with pytest.raises(ValueError, match="rows must be one of auto, all; got 'some'"):
        correlate_weights(source, source, rows="some")
    with pytest.raises(ValueError, match="different widths of the residual stream: 32 in the sour"):
        correlate_weights(tiny_model(hidden_size=16), source)
    broken = noisy_copy(source, 0.1, 1)
    with torch.no_grad():
        broken.model.layers[1].mlp.up_proj.weight[3, 4] = float("nan")
    for weights in (correlate_weights, weights_if_comparable):
        with pytest.raises(ValueError, match=r"up_proj.weight in the llama model holds 1 NaN or"):
            weights(broken, source)
    another = tiny_model()
    another.extra = torch.nn.Linear(3, 3)
    with pytest.raises(IncomparableWeightsError, match=r"did not read extra\.weight"):
        correlate_weights(another, source)
    assert weights_if_comparable(another, source) is None


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(40, 200), seed=st.integers(0, 2**32 - 1))
def test_order_is_seen_through_every_gauge_and_nowhere_else(rows, seed):
    """Gauges change nothing; another order of the rows leaves nothing."""
    g = torch.Generator().manual_seed(seed)
    x, noise = (torch.randn(rows, 24, generator=g, dtype=torch.float64) for _ in range(2))
    y = x + 0.5 * noise
    alike = likeness_of_order(y, x)
    assert alike > 0.5
    carried = SignedPermutation.random(24, seed=seed).apply(y, dim=1)
    assert likeness_of_order(carried, x) == pytest.approx(alike, abs=1e-5)
    assert likeness_of_order(y[torch.randperm(rows, generator=g)], x) < 0.3
    assert likeness_of_order(y[:2], x[:2]) == 0
