"""Training goes on in another gauge as it would have at home, if AdamW's moments were carried.

``exp_avg`` is permuted and signed, ``exp_avg_sq`` permuted alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks import relatives
from benchmarks.paper import training
from benchmarks.paper.claim import Claim, Figure, Size
from bmatch import SignedPermutation, transport

STEPS = 20
OPTIONS: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}


def measure(seed: int, size: Size) -> Iterator[Figure]:
    """Greatest difference of a weight from where training at home ends, relative to its tensor."""
    reference, _, _ = relatives.texts()
    model = relatives.copied(training.runs(seed).base).train()
    optimizer = torch.optim.AdamW(model.parameters(), **OPTIONS)
    _steps(model, optimizer, reference, 0, seed)  # moments to carry
    gauge = SignedPermutation.random(model.config.hidden_size, seed=seed)
    without_signs = SignedPermutation(gauge.perm)
    names = [name for name, _ in model.named_parameters()]
    state = copy.deepcopy(optimizer.state_dict())
    start = relatives.in_gauge(model, gauge)
    carried = {
        "signed": transport.optimizer_state(state, gauge, model, names),
        "permutation alone": transport.optimizer_state(state, without_signs, model, names),
        "moments dropped": None,
    }
    _steps(model, optimizer, reference, STEPS, seed)
    wanted = transport.state_dict(model.state_dict(), gauge, model)
    for route, moments in carried.items():
        other = relatives.copied(start).train()
        stepping = torch.optim.AdamW(other.parameters(), **OPTIONS)
        if moments is not None:
            stepping.load_state_dict(moments)
        _steps(other, stepping, reference, STEPS, seed)
        apart = max(
            float((tensor - wanted[name]).abs().max() / wanted[name].abs().max())
            for name, tensor in other.state_dict().items()
        )
        yield Figure(f"after {STEPS} steps", route, "departure of the weights", "1", apart)


def _steps(
    model: Any, optimizer: torch.optim.Optimizer, text: torch.Tensor, start: int, seed: int
) -> None:
    """Steps number `start` and on, each on tokens of its own."""
    for step in range(start, start + STEPS):
        generator = torch.Generator().manual_seed(1_000_003 * seed + step)
        batch = relatives.drawn(text, relatives.BATCH, relatives.LENGTH, generator)
        optimizer.zero_grad()
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()


CLAIM = Claim(
    "AdamW carried with the weights goes on as at home; not without signs",
    "trajectory preserved; not without signs",
    {**training.SETTINGS, "steps after transport": STEPS, "rate": OPTIONS["lr"]},
    measure,
)
