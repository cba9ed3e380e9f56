"""Steps of training, the same for the same start."""

from __future__ import annotations

import torch
from tiny_models import VOCABULARY


def trained(model, optimizer, steps, start):
    """Steps on random tokens; `start` is the number of the first."""
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(VOCABULARY, (2, 12), generator=generator)
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()


def departure(model, weights):
    """The greatest difference from these weights, as a fraction of their tensor's greatest."""
    found = model.state_dict()
    return max(
        float((found[name] - tensor).abs().max() / tensor.abs().max())
        for name, tensor in weights.items()
    )


def alike(one, other):
    """Whether two states are the same, bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) and one.dtype == other.dtype
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    return one == other
