"""Which hooks lie in the stream, in the spelling of every library."""

from __future__ import annotations

import pytest

from bmatch.transport.hooks import place_of

IN_STREAM = {
    "blocks.12.hook_resid_post": 12,
    "blocks.0.hook_resid_pre": 0,
    "blocks.3.hook_mlp_out": 3,
    "blocks.3.hook_attn_out": 3,
    "blocks.3.hook_in": 3,
    "blocks.3.ln2.hook_normalized": 3,
    "blocks.3.mlp.hook_in": 3,
    "hook_embed": None,
    "mlp.hook_out": None,
    "hook_resid_mid": None,
    "ln2.hook_normalized": None,
    "model.layers.5": 5,
    "model.layers.5.output": 5,
    "model.layers.5.mlp.output": 5,
    "model.layers.5.pre_feedforward_layernorm.output": 5,
    "model.layers.5.self_attn.o_proj.output": 5,
    "model.language_model.layers.5": 5,
    "transformer.h.7": 7,
    "h.3.mlp": 3,
    "layers.5": 5,
    "gpt_neox.layers.2.attention": 2,
    "model.norm.output": None,
    "model.embed_tokens": None,
    "resid_post_layer_12": 12,
    "resid_out_layer3": 3,
    "attn_out_layer3": 3,
    "mlp_out_layer_0": 0,
}
INSIDE = [
    *("blocks.3.attn.hook_z", "blocks.3.mlp.hook_post", "model.layers.5.self_attn.o_proj.input"),
    *("model.layers.5.mlp.down_proj.input", "model.layers.5.mlp.act_fn", "blocks.3.attn.hook_q"),
    *("model.layers.5.self_attn.q_proj", "transformer.h.3.mlp.c_fc"),
]


@pytest.mark.parametrize(("hook", "layer"), IN_STREAM.items())
def test_in_the_stream(hook, layer):
    place = place_of(hook)
    assert (place.in_stream, place.layer) == (True, layer)


@pytest.mark.parametrize("hook", INSIDE)
def test_inside_a_block(hook):
    assert not place_of(hook).in_stream


@pytest.mark.parametrize("hook", ["", "logits", "blocks.3.somewhere", "mlp_post_layer_3"])
def test_unknown(hook):
    with pytest.raises(ValueError, match="is not known"):
        place_of(hook)
