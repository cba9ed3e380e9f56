"""From two models to a gauge: planted truths on small models, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from tiny_models import WIDTH, in_gauge, noisy_copy, tiny_model

import bmatch
from bmatch import SignedPermutation, estimate
from bmatch import stream_reading as of_streams
from bmatch.models.weight_evidence import WeightCorrelation
from bmatch.streams import StreamCorrelation, correlate_streams


def random_batches(count=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randint(300, (4, 64), generator=g) for _ in range(count)]


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3", "smollm3"])
def test_planted_gauge_is_recovered(model_type):
    model = tiny_model(model_type, tied=model_type != "qwen2")
    truth = SignedPermutation.random(WIDTH, seed=2)
    target = in_gauge(noisy_copy(model, 0.1, 1), truth)
    r = bmatch.estimate_gauge(target, model, random_batches())
    assert r.gauge == truth
    assert r.group == "signed_permutation"
    assert r.gauge.metadata["tokens"] == str(4 * 4 * 63)
    assert r.gauge.metadata["sites"] == "0,1,2"
    raw = bmatch.estimate_gauge(target, model, random_batches(), group="permutation")
    assert raw.gauge.agreement(truth) <= np.mean(truth.sign == 1)


def test_one_site_and_attention_masks():
    model = tiny_model(tied=False)
    truth = SignedPermutation.random(WIDTH, seed=3)
    target = in_gauge(noisy_copy(model, 0.02, 1), truth)
    tokens = random_batches(2)
    batches = []
    for ids in tokens:
        mask = torch.ones_like(ids)
        mask[0, 40:] = 0
        batches.append({"input_ids": ids, "attention_mask": mask})
    r = bmatch.estimate_gauge(target, model, batches, sites=[-1])
    assert r.gauge == truth
    assert r.gauge.metadata["tokens"] == str(2 * (4 * 63 - 24))


def test_correlation_is_gauge_equivariant():
    """C of (target, source) in other coordinates is C with rows and columns carried along."""
    model, other = tiny_model(), noisy_copy(tiny_model(), 0.3, 5)
    g, h = SignedPermutation.random(WIDTH, seed=1), SignedPermutation.random(WIDTH, seed=2)
    batches = random_batches(2)
    plain = correlate_streams(other, model, batches).correlation
    moved = correlate_streams(in_gauge(other, g), in_gauge(model, h), batches).correlation
    expected = g.apply(h.apply(plain, dim=1), dim=0)
    assert (moved - expected).abs().max() < 1e-4


def test_correlation_equals_a_plain_computation():
    """Against hidden states kept whole, normalised and correlated by NumPy in float64."""
    model, other = tiny_model(), noisy_copy(tiny_model(), 0.3, 5)
    batches = random_batches(2)
    sites = []
    for site in (0, 1):
        streams = []
        for m in (other, model):
            with torch.no_grad():
                hidden = [m(b, output_hidden_states=True).hidden_states[site] for b in batches]
            x = torch.cat([h[:, 1:].reshape(-1, WIDTH) for h in hidden]).double().numpy()
            streams.append(x / np.sqrt((x**2).mean(-1, keepdims=True)))
        sites.append(np.corrcoef(streams[0].T, streams[1].T)[:WIDTH, WIDTH:])
    got = correlate_streams(other, model, batches, sites=[0, 1])
    assert got.tokens == 2 * 4 * 63
    assert np.abs(got.correlation.numpy() - np.mean(sites, axis=0)).max() < 1e-5


def test_a_massive_token_does_not_matter(monkeypatch):
    """One token's stream of size 10^4, as attention sinks have, in both models alike."""
    model = tiny_model(tied=False)
    target = noisy_copy(model, 0.1, 1)
    with torch.no_grad():
        for m in (model, target):
            m.model.embed_tokens.weight[7] *= 1e4
    truth = SignedPermutation.random(WIDTH, seed=3)
    target = in_gauge(target, truth)
    batches = random_batches(2)
    batches[0][1, 9] = 7
    r = bmatch.estimate_gauge(target, model, batches)
    assert r.gauge == truth
    assert r.margin.min() > 0.5
    monkeypatch.setattr("bmatch.stream_reading._normalized", lambda stream: stream)
    assert bmatch.estimate_gauge(target, model, batches).margin.min() < 0.05


def test_models_that_do_not_fit_are_refused():
    model = tiny_model()
    for other, message in (
        (tiny_model(hidden_size=16), "different widths of the residual stream: 32 in the source"),
        (tiny_model(vocab_size=200), "token ids must be from 0 to 199, the model's vocabulary"),
    ):
        with pytest.raises(ValueError, match=message):
            bmatch.estimate_gauge(other, model, random_batches(1))


def test_signed_matching_of_layernorm_models_is_refused():
    import transformers

    config = transformers.GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=300, n_positions=64)
    gpt2 = transformers.GPT2LMHeadModel(config)
    with pytest.raises(ValueError, match="signs of single coordinates change its function"):
        bmatch.estimate_gauge(gpt2, gpt2, random_batches(1), group="signed_permutation")


def test_nothing_to_count_and_broken_models_are_refused():
    model = tiny_model()
    with pytest.raises(ValueError, match="0 tokens were counted"):
        bmatch.estimate_gauge(model, model, [])
    with pytest.raises(ValueError, match="0 tokens were counted"):
        bmatch.estimate_gauge(model, model, [torch.zeros(3, 1, dtype=torch.long)])
    broken = tiny_model()
    with torch.no_grad():
        broken.model.layers[0].mlp.down_proj.weight[:] = float("nan")
    with pytest.raises(ValueError, match=r"batch 0 .* target holds nan"):
        bmatch.estimate_gauge(broken, model, random_batches(1))
    with pytest.raises(TypeError, match="wrap a single one in brackets"):
        bmatch.estimate_gauge(model, model, {"input_ids": random_batches(1)[0]})
    with pytest.raises(ValueError, match="group must be one of"):
        bmatch.estimate_gauge(model, model, random_batches(1), group="signs")


def test_a_broken_site_is_named_by_its_number():
    broken = tiny_model(num_hidden_layers=3)
    with torch.no_grad():
        broken.model.layers[1].mlp.down_proj.weight[:] = float("nan")
    with pytest.raises(ValueError, match=r"batch 0 .* target holds nan at site 2, counted token 0"):
        correlate_streams(broken, broken, random_batches(1), sites=[0, 2, 3])


def test_a_device_without_room_is_refused_before_anything_runs(pair, monkeypatch):
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3_000_000, 80_000_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2_000_000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1_000_000)
    of_streams.require_memory(4_000_000, cuda)
    message = r"needs 0\.01 GB on cuda and 0\.00 GB are free there: take fewer sites or smaller"
    with pytest.raises(ValueError, match=message):
        of_streams.require_memory(5_000_001, cuda)


def test_weights_are_evidence_without_a_token_and_beside_tokens():
    source = tiny_model()
    secret = SignedPermutation.random(WIDTH, seed=5)
    target = in_gauge(noisy_copy(source, 0.7, 1), secret)
    few = [random_batches(1)[0][:1, :24]]
    read = bmatch.estimate_gauge(target, source, few)
    weighed = bmatch.estimate_gauge(target, source, evidence="weights")
    both = bmatch.estimate_gauge(target, source, few, evidence="both")
    assert read.gauge != secret
    assert weighed.gauge == both.gauge == secret
    assert read.gauge.metadata["evidence"] == "activations"
    assert "weight_rows" not in read.gauge.metadata
    assert weighed.gauge.metadata["evidence"] == "weights"
    assert int(weighed.gauge.metadata["weight_rows"]) > 500
    assert not {"tokens", "sites"} & weighed.gauge.metadata.keys()
    assert both.gauge.metadata["evidence"] == "both"
    assert both.gauge.metadata["tokens"] == "23"
    assert both.gauge.metadata["weight_rows"] == weighed.gauge.metadata["weight_rows"]


def test_the_evidence_with_less_chance_in_it_counts_for_more():
    """A mean by inverse squares of the magnitudes; an empty one counts for nothing."""
    g = torch.Generator().manual_seed(0)
    loud, faint = torch.randn(8, 8, generator=g), 0.1 * torch.randn(8, 8, generator=g)

    def streams_of(correlation):
        return StreamCorrelation(correlation, None, (), 9, blocks=None, decoys=None)

    streams = streams_of(loud)
    weights = WeightCorrelation(faint, 9, {}, {}, ())
    a, b = float(loud.abs().mean()) ** -2, float(faint.abs().mean()) ** -2
    expected = (a * loud + b * faint) / (a + b)
    torch.testing.assert_close(estimate.combined(streams, weights), expected)
    assert estimate.combined(None, weights) is not None
    silent = streams_of(torch.zeros(8, 8))
    torch.testing.assert_close(estimate.combined(silent, weights), faint)
    assert not estimate.combined(silent, None).any()


def test_evidence_is_named():
    model = tiny_model()
    with pytest.raises(ValueError, match="one of activations, weights, both; got 'hearsay'"):
        bmatch.estimate_gauge(model, model, evidence="hearsay")
    with pytest.raises(ValueError, match="different widths of the residual stream"):
        bmatch.estimate_gauge(tiny_model(hidden_size=16), model, evidence="weights")
    gpt2 = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=300, n_embd=32, n_layer=1, n_head=2)
    )
    with pytest.raises(ValueError, match="which signed_permutation exceeds"):
        bmatch.estimate_gauge(gpt2, gpt2, group="signed_permutation", evidence="weights")
