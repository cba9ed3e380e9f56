"""Tables by names of torchtitan and Megatron-core, beside what their sources say of shapes."""

from __future__ import annotations

import pytest
import transformers

from bmatch.architecture import residual_axes
from bmatch.architecture.megatron import MEGATRON
from bmatch.architecture.torchtitan import TORCHTITAN


def axes_of(model_type, **options):
    return residual_axes(transformers.CONFIG_MAPPING[model_type](**options).to_dict())


LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}
STACKED = {  # shapes, and the axes of the stream with their signs
    "embedding.word_embeddings.weight": ((128, 32), ((1, True),)),
    "decoder.layers.self_attention.linear_qkv.layer_norm_weight": ((3, 32), ((1, False),)),
    "decoder.layers.self_attention.linear_qkv.weight": ((3, 64, 32), ((2, True),)),
    "decoder.layers.self_attention.linear_proj.weight": ((3, 32, 32), ((1, True),)),
    "decoder.layers.mlp.linear_fc1.layer_norm_weight": ((3, 32), ((1, False),)),
    "decoder.layers.mlp.linear_fc1.weight": ((3, 96, 32), ((2, True),)),
    "decoder.layers.mlp.linear_fc2.weight": ((3, 32, 48), ((1, True),)),
    "decoder.final_layernorm.weight": ((32,), ((0, False),)),
    "output_layer.weight": ((128, 32), ((1, True),)),
}


def test_stacked_blocks_have_one_more_axis():
    table = MEGATRON.spelled(axes_of("llama", **LLAMA), STACKED).axes
    table.require_names(STACKED)
    table.require_shapes({name: shape for name, (shape, _) in STACKED.items()})
    assert {name: table.row(name).axes for name in STACKED} == {
        name: axes for name, (_, axes) in STACKED.items()
    }
    with pytest.raises(ValueError, match=r"missing: decoder\.final_layernorm\.weight"):
        table.require_names(set(STACKED) - {"decoder.final_layernorm.weight"})
    with pytest.raises(ValueError, match=r"missing: output_layer\.weight"):
        table.require_names(set(STACKED) - {"output_layer.weight"})


def test_numbered_blocks_are_counted():
    names = [
        name.replace("layers.", f"layers.{number}.") for number in range(3) for name in STACKED
    ]
    table = MEGATRON.spelled(axes_of("llama", **LLAMA), names).axes
    table.require_names(names)
    assert table.row("decoder.layers.2.mlp.linear_fc1.weight").axes == ((1, True),)
    with pytest.raises(ValueError, match=r"not in the table .*decoder\.layers\.3\."):
        table.require_names([*names, "decoder.layers.3.mlp.linear_fc1.weight"])


def test_gains_may_lie_in_either_module():
    """A block of experts has its own norm, and a dense one its gain in the next module."""
    axes = axes_of("deepseek_v3", num_hidden_layers=2, first_k_dense_replace=1)
    gains = [
        "decoder.layers.0.mlp.linear_fc1.layer_norm_weight",
        "decoder.layers.1.pre_mlp_layernorm.weight",
    ]
    table = MEGATRON.spelled(axes, gains).axes
    assert [table.row(name).axes for name in gains] == [((0, False),)] * 2
    bias = "decoder.layers.1.mlp.router.expert_bias"
    assert not MEGATRON.spelled(axes, [*gains, bias]).axes.row(bias).axes


def test_experts_have_their_axes_in_the_order_of_their_names():
    for model_type in ("qwen3_moe", "llama4_text"):  # [E, 2F, D] and [E, D, 2F] in transformers
        place = "layers.0.moe.routed_experts.inner_experts"
        names = [f"{place}.w{end}" for end in ("1_EFD", "2_EDF", "3_EFD")]
        spelled = TORCHTITAN.spelled(axes_of(model_type), names)
        assert [spelled.axes.row(n).axes for n in names] == [((axis, True),) for axis in (2, 1, 2)]
        assert [spelled.in_transformers(name) for name in names] == names


def test_what_transformers_has_alike():
    spelled = TORCHTITAN.spelled(axes_of("qwen3"), ["layers.7.feed_forward.w3.weight"])
    names = {
        "layers.7.feed_forward.w3.weight": "model.layers.7.mlp.up_proj.weight",
        "layers.12.attention.q_norm.weight": "model.layers.12.self_attn.q_norm.weight",
        "tok_embeddings.weight": "model.embed_tokens.weight",
        "lm_head.weight": "lm_head.weight",
        "layers.0.unknown": "layers.0.unknown",
    }
    assert {name: spelled.in_transformers(name) for name in names} == names


@pytest.mark.parametrize("model_type", ["gpt2", "gemma2", "olmo2"])
@pytest.mark.parametrize("spelling", [TORCHTITAN, MEGATRON])
def test_models_with_parts_of_unknown_names_are_refused(model_type, spelling):
    with pytest.raises(ValueError, match=f"what {spelling.project} calls .* a {model_type} is not"):
        spelling.spelled(axes_of(model_type), [])
