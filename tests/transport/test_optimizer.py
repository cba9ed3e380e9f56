"""Optimizer states under gauges: twenty steps from a carried state are twenty steps, carried."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
import transformers
from tiny_models import VOCABULARY, WIDTH, tiny_model

from bmatch import OrthogonalGauge, SignedPermutation, transport

STEPS = 20


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, arXiv 2302.06675, algorithm 2."""

    def __init__(self, params, lr, betas=(0.9, 0.99), weight_decay=0.1):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            first, second = group["betas"]
            for p in group["params"]:
                moment = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * torch.sign(torch.lerp(p.grad, moment, first)))
                moment.lerp_(p.grad, 1 - second)


class ScheduleFree(torch.optim.Optimizer):
    """Defazio et al. 2024, arXiv 2405.15682, AdamW with y = x + (1 - beta)(z - x)."""

    def __init__(self, params, lr, betas=(0.9, 0.99)):
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            first, second = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state |= {"z": p.clone(), "exp_avg_sq": torch.zeros_like(p), "step": 0}
                state["step"] += 1
                average = 1 / state["step"]
                state["exp_avg_sq"].lerp_(p.grad**2, 1 - second)
                update = p.grad / (
                    (state["exp_avg_sq"] / (1 - second ** state["step"])).sqrt() + 1e-4
                )
                x = p - (1 - first) / first * (state["z"] - p)
                state["z"].sub_(group["lr"] * update)
                x.lerp_(state["z"], average)
                p.copy_(x + (1 - first) * (state["z"] - x))


def _matrices(make):
    """An optimizer of matrices alone."""
    return lambda params, **options: make([p for p in params if p.ndim == 2], **options)


adam = {"lr": 1e-3, "eps": 1e-4}  # an eps above float32's noise in gradients of next to nothing
OPTIMIZERS = {
    "adamw": (torch.optim.AdamW, adam),
    "amsgrad": (torch.optim.Adam, {**adam, "amsgrad": True}),
    "sgd": (torch.optim.SGD, {"lr": 1e-2, "momentum": 0.9}),
    "nesterov": (torch.optim.SGD, {"lr": 1e-2, "momentum": 0.9, "nesterov": True}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 1e-4, "eps": 1e-3, "momentum": 0.9, "centered": True}),
    "adagrad": (torch.optim.Adagrad, {"lr": 1e-3, "eps": 1e-4}),
    "nadam": (torch.optim.NAdam, adam),
    "muon": (_matrices(torch.optim.Muon), {"lr": 1e-3}),
    "adafactor": (torch.optim.Adafactor, {"lr": 1e-4}),
    "adafactor_of_transformers": (
        transformers.Adafactor,
        {"lr": 1e-3, "relative_step": False, "scale_parameter": False, "beta1": 0.9},
    ),
    "lion": (Lion, {"lr": 1e-4}),
    "schedule_free": (ScheduleFree, {"lr": 1e-3}),
}


def trained(model, optimizer, steps, start):
    """Steps on random tokens, the same for the same start."""
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(VOCABULARY, (2, 12), generator=generator)
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()


def copied(model, weights):
    other = copy.deepcopy(model)
    other.load_state_dict(weights)
    return other


def alike(one, other):
    """Whether two states are the same, bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) and one.dtype == other.dtype
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    return one == other


def departure(model, weights):
    """The greatest difference from these weights, as a fraction of their tensor's greatest."""
    found = model.state_dict()
    return max(
        float((found[name] - tensor).abs().max() / tensor.abs().max())
        for name, tensor in weights.items()
    )


UNSIGNED = {"adagrad", "adafactor"}  # all that they keep are squares


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_after_transport_are_transport_after_steps(name, monkeypatch):
    # Muon's products are of bfloat16, whose sums depend on the order of their terms.
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.float)
    make, options = OPTIMIZERS[name]
    model = tiny_model("llama", tied=True, num_hidden_layers=1)
    optimizer = make(model.parameters(), **options)
    trained(model, optimizer, 3, 0)
    gauge = SignedPermutation.random(WIDTH, seed=1)
    state = optimizer.state_dict()
    before = copy.deepcopy(state)
    names = [n for n, p in model.named_parameters() if name != "muon" or p.ndim == 2]
    other = copied(model, transport.state_dict(model.state_dict(), gauge, model))
    astray = copied(model, other.state_dict())
    carried = transport.optimizer_state(state, gauge, model, names)
    back = transport.optimizer_state(carried, gauge.inverse(), model.config, names)
    assert alike(state, before)
    assert alike(back, before)
    stepping, strayed = make(other.parameters(), **options), make(astray.parameters(), **options)
    stepping.load_state_dict(carried)
    without_signs = SignedPermutation(gauge.perm)
    strayed.load_state_dict(transport.optimizer_state(state, without_signs, model, names))

    few = 5
    for one, by in ((model, optimizer), (other, stepping), (astray, strayed)):
        trained(one, by, few, 3)
    wanted = transport.state_dict(model.state_dict(), gauge, model)
    assert (departure(astray, wanted) > 1e-3) == (name not in UNSIGNED)
    for one, by in ((model, optimizer), (other, stepping)):
        trained(one, by, STEPS - few, 3 + few)
    wanted = transport.state_dict(model.state_dict(), gauge, model)
    assert departure(other, wanted) < 1e-6
