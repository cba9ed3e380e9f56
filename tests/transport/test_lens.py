"""State dicts of TransformerLens, as it writes them with and without processing."""

from __future__ import annotations

import pytest
import torch
from tiny_models import WIDTH, tiny_model

from bmatch import SignedPermutation, transport

GAUGE = SignedPermutation.random(WIDTH, seed=0)


def lens(gains, centred, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(11, WIDTH, generator=generator)
    rows = rows - rows.mean(-1, keepdim=True) if centred else rows
    weights = {"embed.W_E": rows, "blocks.0.attn.W_Q": torch.randn(2, WIDTH, 4)}
    weights |= {"blocks.0.mlp.W_in": torch.randn(WIDTH, 5), "unembed.W_U": torch.randn(WIDTH, 11)}
    if gains is not None:
        weights |= {"blocks.0.ln1.w": torch.full((WIDTH,), gains), "ln_final.w": torch.ones(WIDTH)}
    return {name: tensor.to(dtype) for name, tensor in weights.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gains", [None, 1.0, 1.5])
@pytest.mark.parametrize("centred", [False, True])
def test_what_was_done_to_them_is_told(gains, centred, dtype):
    weights = lens(gains, centred, dtype)
    model = tiny_model("llama", tied=False, num_hidden_layers=1)
    with pytest.raises(ValueError, match="as TransformerLens holds them") as told:
        transport.state_dict(weights, GAUGE, model)
    assert ("fold_ln" in str(told.value)) == (gains != 1.5)
    assert ("center_writing_weights" in str(told.value)) == centred
    assert "from_pretrained_no_processing" in str(told.value)
