"""The order of numbered moments, told by the moments themselves."""

from __future__ import annotations

import pytest
import torch
from steps import trained
from tiny_models import tiny_model

from bmatch import SignedPermutation, transport

WIDTH = 192
SIZES = {"hidden_size": WIDTH, "num_attention_heads": 12, "head_dim": 16, "intermediate_size": 256}


def state_of(seed, make, **options):
    model = tiny_model("llama", seed=seed, **SIZES)
    optimizer = make(model.parameters(), lr=1e-4, **options)
    trained(model, optimizer, 3, seed)
    return model, optimizer.state_dict()


@pytest.mark.parametrize(
    ("make", "options"), [(torch.optim.AdamW, {}), (torch.optim.SGD, {"momentum": 0.9})]
)
def test_readers_that_were_numbered_as_writers_are_found(make, options):
    gauge = SignedPermutation.random(WIDTH, seed=1)
    model, state = state_of(0, make, **options)
    transport.optimizer_state(state, gauge, model)
    names = [name for name, _ in model.named_parameters()]
    kinds = {"q_proj": "o_proj", "o_proj": "q_proj"}
    order = [".".join(kinds.get(part, part) for part in name.split(".")) for name in names]
    swapped = {k: state["state"][names.index(name)] for k, name in enumerate(order)}
    with pytest.raises(ValueError, match=r"by their order .*_proj\.weight would carry the stream"):
        transport.optimizer_state({**state, "state": swapped}, gauge, model)
    transport.optimizer_state({**state, "state": swapped}, gauge, model, order)


@pytest.mark.parametrize("seed", range(3))
def test_right_orders_are_not_refused(seed):
    model, state = state_of(seed, torch.optim.AdamW)
    transport.optimizer_state(state, SignedPermutation.identity(WIDTH), model)
