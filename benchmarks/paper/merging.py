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
from benchmarks.paper.trajectory import SHOWN, SITE, STRIDE, path, planted
from bmatch import SignedPermutation, transport
from bmatch.streams import correlate_streams

TOKENS = 64
READ = 8192


def measure(seed: int, size: Size) -> Iterator[Figure]:
    """Cross entropy, in nats a byte, of the average of A and of B carried to A's coordinates."""
    _, sources, held_out = relatives.texts()
    last = SHOWN[-1]
    runs = training.runs(seed)
    batches = relatives.batches(held_out, TOKENS, seed)
    base, a, b = planted(runs, seed, STRIDE)

    def matched(target: Any, source: Any) -> SignedPermutation:
        found = bmatch.estimate_gauge(target.model, source.model, batches, [SITE], witness=False)
        return found.gauge

    up_a, up_b = (path(base, run, matched)[last] for run in (a, b))
    target, source = a[last], b[last]
    raw = correlate_streams(target.model, source.model, batches, [SITE]).correlation.numpy()
    routes = {
        "truth": target.gauge @ source.gauge.inverse(),
        "path": up_a @ up_b.inverse(),
        "endpoint": matched(target, source),
        "raw correlation": bmatch.match(raw, "permutation").gauge,
        "none": SignedPermutation.identity(source.gauge.dim),
    }
    generator = torch.Generator().manual_seed(seed)
    asked = [_sequences(text, generator) for text in (held_out, sources)]
    for route, gauge in {"A alone": None, "B alone": None, **routes}.items():
        if gauge is None:
            model = (target if route == "A alone" else source).model
        else:
            model = _average(target.model, source.model, gauge)
        loss = sum(_loss(model, tokens) for tokens in asked) / len(asked)
        yield Figure(f"{last} steps, {TOKENS} tokens", route, "loss of the average", "nat", loss)


def _average(target: Any, source: Any, gauge: SignedPermutation) -> Any:
    carried = transport.state_dict(source.state_dict(), gauge, source)
    merged = relatives.copied(target)
    merged.load_state_dict(
        {name: (tensor + carried[name]) / 2 for name, tensor in target.state_dict().items()}
    )
    return merged


def _sequences(text: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    length = relatives.LENGTH
    starts = torch.randint(len(text) - length, (READ // length,), generator=generator)
    return torch.stack([text[k : k + length] for k in starts.tolist()])


@torch.no_grad()
def _loss(model: Any, tokens: torch.Tensor) -> float:
    return float(model(input_ids=tokens, labels=tokens).loss)


CLAIM = Claim(
    "Two fine-tunes merge in one's coordinates as well as the gauge between them is known",
    "merges behave as the gauges do",
    {**training.SETTINGS, "site": f"after block {SITE}", "tokens matched": TOKENS},
    measure,
)
