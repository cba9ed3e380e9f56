"""Query heads of a group, coordinates of a head: in the sizes of the full model, proved there."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import transformers

from bmatch.architecture import derive, prove
from bmatch.architecture.nesting import Nesting
from bmatch.architecture.tiny import randomise

SIZES = {"num_hidden_layers": 3, "vocab_size": 100, "intermediate_size": 96}
LLAMA = {"hidden_size": 60, "num_attention_heads": 12, "num_key_value_heads": 3, "head_dim": 10}
PHI3 = {"hidden_size": 120, "num_attention_heads": 12, "num_key_value_heads": 3, "pad_token_id": 0}
GPT2 = {"n_embd": 48, "n_head": 6, "n_layer": 3, "vocab_size": 100, "n_positions": 64}


@pytest.mark.parametrize(
    ("model_type", "sizes", "inside"),
    [
        # of each group its 4 query heads, and the 10 coordinates of v that they read
        ("llama", SIZES | LLAMA, {("permutation", 4): 3, ("signed_permutation", 10): 3}),
        # the same where q, k and v are one matrix, of which q is the longer part
        ("phi3", SIZES | PHI3, {("permutation", 4): 3, ("signed_permutation", 10): 3}),
        # of each head the coordinates of q and k, and those of v
        ("gpt2", GPT2, {("signed_permutation", 8): 12}),
    ],
)
def test_spaces_in_heads(model_type, sizes, inside):
    config = transformers.CONFIG_MAPPING[model_type](**sizes)
    axes = derive(config)
    assert axes.unmapped == ()
    assert len({space.name for space in axes.spaces}) == len(axes.spaces)
    orbits = Nesting.of(axes).orbits
    assert len(orbits) == 3
    by_name = {space.name: space for space in axes.spaces}
    for siblings in orbits.values():
        spaces = [by_name[name] for names in siblings for name in names]
        assert Counter((space.group, space.size) for space in spaces) == inside
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).to(torch.float32).eval()
    randomise(model)
    held, proof = prove(model, axes)
    assert held.refuted == ()
    assert proof.together < 1e-4
