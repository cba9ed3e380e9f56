"""Tables derived from configs alone: as good as those that come with bmatch."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

import bmatch
from bmatch import architecture, transport
from bmatch.architecture.derived import derived_axes, table_of
from bmatch.architecture.spaces import Axes
from bmatch.architecture.stored import stored
from bmatch.architecture.survey import config_and_class
from bmatch.architecture.tiny import randomise, tiny_model
from bmatch.estimate import resolve_group
from bmatch.jobs.phases import Phase, phase
from bmatch.models.checkpoint import open_checkpoint

TYPES = ("gemma", "gemma3_text", "phi3", "olmo2", "gpt_oss", "mamba", "falcon_h1", "mixtral")
LAYERNORM_TYPES = ("gpt2", "gpt_neox", "opt", "bert", "nemotron")


def tiny(model_type):
    torch.manual_seed(0)
    model = tiny_model(*config_and_class(model_type))
    randomise(model)
    return model.eval()


@pytest.mark.parametrize("model_type", TYPES + LAYERNORM_TYPES)
def test_logits_stay(model_type):
    assert architecture.verify(tiny(model_type)) < 1e-4


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "mixtral", "olmo", "gpt2"])
def test_as_the_tables_that_come_with_bmatch(model_type):
    """In the sizes of the class's own config, most far larger than what is traced."""
    config = config_and_class(model_type)[0].to_dict()
    ours, derived = stored(model_type).table(config), derived_axes(config)
    assert (derived.dim, derived.num_layers) == (ours.dim, ours.num_layers)
    assert (derived.vocab_size, derived.tied) == (ours.vocab_size, ours.tied)
    assert (derived.group, derived.family.blocks) == (ours.group, ours.family.blocks)
    names = [name for rule in derived.rules for name in derived.names(rule) if "{" not in name]
    for name in names:
        assert derived.rule(name).axes == ours.rule(name).axes, name
        assert derived.rule(name).role == ours.rule(name).role


@pytest.mark.parametrize(
    "model_type", ["gemma2", "phi3", "mamba", "mixtral", "qwen3_moe", "gpt2", "gpt_neox"]
)
def test_a_folder_is_carried_and_its_gauge_found_again(model_type, tmp_path):
    model = tiny(model_type)
    model.save_pretrained(tmp_path / "source")
    axes = architecture.residual_axes(model)
    gauge = bmatch.SignedPermutation.random(axes.dim, axes.group, seed=1)
    transport.checkpoint(tmp_path / "source", gauge, tmp_path / "target")
    target = AutoModelForCausalLM.from_pretrained(tmp_path / "target").eval()
    assert open_checkpoint(tmp_path / "target").axes == axes
    tokens = torch.randint(axes.vocab_size, (8, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = model(tokens).logits, target(tokens).logits
    assert float((before - after).abs().max() / before.abs().max()) < 1e-4
    assert bmatch.estimate_gauge(target, model, [tokens]).gauge.agreement(gauge) == 1.0


@pytest.mark.parametrize("model_type", LAYERNORM_TYPES)
def test_gauges_of_larger_groups_are_refused(model_type, tmp_path):
    model = tiny(model_type)
    axes = architecture.residual_axes(model)
    assert axes.group == "permutation_global_sign"
    signed = bmatch.SignedPermutation.random(axes.dim, seed=1)
    model.save_pretrained(tmp_path / "source")
    sentence = f"{model_type}'s residual stream is permutation_global_sign"
    with pytest.raises(ValueError, match=sentence):
        transport.state_dict(model.state_dict(), signed, model)
    with pytest.raises(ValueError, match=sentence):
        transport.checkpoint(tmp_path / "source", signed, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_the_smaller_of_two_groups_is_matched_in():
    by_mean, by_square = (architecture.residual_axes(tiny(name)) for name in ("gpt2", "gemma"))
    assert resolve_group(by_mean, by_square, "auto") == "permutation_global_sign"
    assert resolve_group(by_square, by_square, "auto") == "signed_permutation"
    assert resolve_group(by_square, by_mean, "permutation") == "permutation"
    with pytest.raises(
        ValueError, match="gpt2's residual stream is permutation_global_sign, which"
    ):
        resolve_group(by_square, by_mean, "signed_permutation")


def test_each_expert_has_a_rule_in_files_and_all_have_one_in_the_model():
    """transformers writes each expert by itself, and keeps all in one tensor."""
    axes = architecture.residual_axes(tiny("mixtral"))
    assert axes.rule("model.layers.0.mlp.experts.down_proj").axes == ((1, True),)
    assert axes.rule("model.layers.0.block_sparse_moe.experts.3.w2.weight").axes == ((0, True),)
    assert axes.rule("model.layers.1.block_sparse_moe.experts.0.w1.weight").axes == ((1, True),)
    assert axes.rule("model.layers.2.block_sparse_moe.experts.0.w1.weight") is None  # two layers
    assert axes.rule("model.layers.1.block_sparse_moe.experts.0.w4.weight") is None


def test_a_config_that_its_class_refuses():
    with pytest.raises(ValueError, match="no table could be derived for gemma2: "):
        architecture.residual_axes({"model_type": "gemma2", "hidden_size": None})
    with pytest.raises(ValueError, match="the config of this gemma2 is damaged: it has no hidden"):
        architecture.residual_axes({"model_type": "gemma2", "hidden_size": "wide"})


def test_an_encoder_comes_with_its_decoder():
    """Of a model of both, the causal one is half."""
    axes = derived_axes(config_and_class("bart")[0].to_dict())
    assert axes.rule("model.encoder.layers.0.fc1.weight").axes == ((1, True),)
    assert axes.rule("model.decoder.layers.1.encoder_attn.out_proj.weight").axes == ((0, True),)


def test_infinite_numbers_of_a_config_file():
    config = transformers.FalconH1Config(time_step_limit=(0.0, float("inf")))
    written = tiny("falcon_h1").config.to_dict() | {"time_step_limit": config.time_step_limit}
    tagged = written | {"time_step_limit": [0.0, {"__float__": "Infinity"}]}
    assert derived_axes(tagged).dim == derived_axes(written).dim


@pytest.mark.parametrize("model_type", ["llama", "mixtral"])
def test_none_of_the_weights_of_a_large_model_is_made(model_type):
    """16 and 93 GB of them in bfloat16: the peak of resident memory rises by less than 2 GB."""
    config = {
        "model_type": model_type,
        "vocab_size": 128_256,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    }
    phases: list[Phase] = []
    with phase("before", phases):
        pass
    with phase("derived", phases):
        table = derived_axes(config)
    before, derived = phases
    assert derived.peak_bytes - before.peak_bytes < 2_000_000_000
    assert (table.dim, table.num_layers) == (4096, 32)


def test_why_a_stream_is_fixed():
    def refused(**changes):
        axes = Axes((), **changes)
        with pytest.raises(ValueError, match="no gauge of llama's residual stream was") as error:
            table_of(axes, model.config, model, model)
        return str(error.value).partition(" found: ")[2]

    model = tiny("llama")
    assert refused(unknown=("sort", "topk")) == "there is no rule for sort, topk"
    dropped = "residual: changes an output by 2.0e-01 of the largest"
    assert refused(refuted=("other: no", dropped)) == dropped
    assert refused(unmapped=("residual: sizes",)) == "residual: sizes"
    assert refused() == "what the model computes fixes its coordinates"


@pytest.mark.parametrize(
    ("model_type", "told"),
    [
        ("granite4_vision", r"transformers makes no model of this config \(TypeError: "),
        ("squeezebert", r"word_embeddings\.weight holds it beside others"),  # in parts, all read
        ("ibert", r"the table for ibert did not read .*\.weight_integer, so where it"),
    ],
)
def test_why_there_is_no_table(model_type, told):
    """Numbers without an axis carry nothing, whether they are read or not: ibert has such."""
    with pytest.raises(ValueError, match=told):
        derived_axes({"model_type": model_type})
