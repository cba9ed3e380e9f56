"""Averaging two fine-tunes in one's coordinates: as good as the gauge between them.

The loss is that of the average, on text that neither run nor the base has read, and on sources.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

import bmatch
from benchmarks import relatives
from benchmarks.paper import training
from benchmarks.paper.claim import Claim, Figure, Size
from benchmarks.paper.trajectory import SITE
from benchmarks.two_runs import SEPARATING, in_gauges
from bmatch import SignedPermutation, transport
from bmatch.streams import correlate_streams

TOKENS = 64
READ = 8192


def measure(seed: int, size: Size) -> Iterator[Figure]:
    """Cross entropy, in nats a byte, of the average of A and of B carried to A's coordinates."""
    _, sources, held_out = relatives.texts()
    last = SEPARATING.steps
    batches = relatives.batches(held_out, TOKENS, seed)
    steps, models = training.runs(seed).path(last)
    carried, truth = in_gauges(models, seed)  # from A's last checkpoint to B's
    source, target = carried[-1], carried[0]
    path = bmatch.Trajectory(carried, batches, base=steps.index(0), sites=[SITE], witness=False)
    raw = correlate_streams(target, source, batches, [SITE]).correlation.numpy()
    routes = {
        "truth": truth.inverse(),
        "path": path.routes["path"].inverse(),
        "endpoint": path.routes["endpoint"].inverse(),
        "raw correlation": bmatch.match(raw, "permutation").gauge,
        "none": SignedPermutation.identity(truth.dim),
    }
    generator = torch.Generator().manual_seed(seed)
    count, length = READ // relatives.LENGTH, relatives.LENGTH
    asked = [relatives.drawn(text, count, length, generator) for text in (held_out, sources)]
    for route, gauge in {"A alone": None, "B alone": None, **routes}.items():
        if gauge is None:
            model = target if route == "A alone" else source
        else:
            model = _average(target, source, gauge)
        loss = sum(_loss(model, tokens) for tokens in asked) / len(asked)
        yield Figure(f"{last} steps, {TOKENS} tokens", route, "loss of the average", "nat", loss)


def _average(target: Any, source: Any, gauge: SignedPermutation) -> Any:
    carried = transport.state_dict(source.state_dict(), gauge, source)
    merged = relatives.copied(target)
    merged.load_state_dict(
        {name: (tensor + carried[name]) / 2 for name, tensor in target.state_dict().items()}
    )
    return merged


@torch.no_grad()
def _loss(model: Any, tokens: torch.Tensor) -> float:
    return float(model(input_ids=tokens, labels=tokens).loss)


CLAIM = Claim(
    "Two fine-tunes merge in one's coordinates as well as the gauge between them is known",
    "merges behave as the gauges do",
    {**training.SETTINGS, "site": f"after block {SITE}", "tokens matched": TOKENS},
    measure,
)
