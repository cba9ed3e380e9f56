"""Which architectures turn: norms without gains do, a stream that passes a GELU does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from tiny_models import noisy_copy

import bmatch
from bmatch import OrthogonalGauge
from bmatch.architecture import residual_axes
from bmatch.architecture.premise import premise
from bmatch.architecture.rotating import require_rotations, stays_under_rotations
from bmatch.architecture.tiny import randomise

SMALL = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def built(config):
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    randomise(model)
    return model


def carried(model, gauge):
    moved = type(model)(model.config)
    moved.load_state_dict(bmatch.transport.state_dict(model.state_dict(), gauge, model))
    return moved.eval()


def judged(model):
    return premise(residual_axes(model), model.state_dict().items())


def change(one, other):
    tokens = torch.randint(300, (2, 30), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        a, b = one(tokens).logits, other(tokens).logits
    return float((a - b).abs().max() / a.abs().max())


def recovered(model, truth):
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randint(300, (4, 64), generator=generator) for _ in range(4)]
    target = carried(noisy_copy(model, 0.01, 1), truth)
    return bmatch.estimate_gauge(target, model, batches, group="orthogonal")


def test_nanochat_whose_norms_have_no_gains():
    model = built(transformers.NanoChatConfig(**SMALL))
    assert stays_under_rotations(model)
    found = judged(model)
    assert (found.gains, found.whole_gauge) == ("none", "orthogonal")
    truth = OrthogonalGauge.random(32, seed=0)
    assert change(model, carried(model, truth)) < 1e-4
    match = recovered(model, truth)
    assert match.gauge.distance(truth) < 0.05
    assert match.undetermined == 0


def test_olmo_whose_layernorms_have_none_fixes_the_ones_vector():
    model = built(transformers.OlmoConfig(**SMALL))
    found = judged(model)
    assert found.whole_gauge == "orthogonal maps that fix the ones vector"
    truth = OrthogonalGauge.random(32, seed=0, fix_ones=True)
    for gauge in (truth, OrthogonalGauge(-np.eye(32)) @ truth):
        assert change(model, carried(model, gauge)) < 1e-4
        match = recovered(model, gauge)
        assert match.gauge.fixes_ones
        assert match.gauge.distance(gauge) < 0.05
    with pytest.raises(ValueError, match="moves the ones vector"):
        carried(model, OrthogonalGauge.random(32, seed=0))


def test_generic_gains_of_a_derived_type_are_refused():
    small = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 300, "n_positions": 64}
    gpt2 = built(transformers.GPT2Config(**small))
    assert stays_under_rotations(gpt2.config)
    assert judged(gpt2).whole_gauge == "permutation_global_sign"
    with pytest.raises(ValueError, match="is permutation_global_sign and not orthogonal"):
        bmatch.estimate_gauge(gpt2, gpt2, [torch.zeros(1, 9).long()], group="orthogonal")
    with pytest.raises(ValueError, match=r"gains of shape .* differ"):
        carried(gpt2, OrthogonalGauge.random(32, seed=0, fix_ones=True))


def test_a_stream_that_passes_a_gelu_does_not_turn():
    """BERT's head: a matrix of the stream, a GELU, and the tied embedding. Flat gains or not."""
    small = {**SMALL, "is_decoder": True, "type_vocab_size": 2}
    bert = built(transformers.BertConfig(**small))
    axes = residual_axes(bert)
    with torch.no_grad():
        for name, tensor in bert.named_parameters():
            if tensor.ndim == 1 and "LayerNorm.weight" in name:
                tensor.fill_(1.0)
    assert axes.group == "permutation_global_sign"
    gauge = OrthogonalGauge.random(32, seed=0, fix_ones=True)
    for model in (bert, bert.config, bert.config.to_dict()):
        assert not stays_under_rotations(model)
        with pytest.raises(ValueError, match="changes what a bert computes"):
            require_rotations(model)
    with pytest.raises(ValueError, match="changes what a bert computes"):
        carried(bert, gauge)
    with pytest.raises(ValueError, match="changes what a bert computes"):
        bmatch.estimate_gauge(bert, bert, [torch.zeros(1, 9).long()], group="orthogonal")
