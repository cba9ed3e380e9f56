"""Matching on the raw correlation ends at the share of positive signs; without signs it does not.

Beside each figure stands the premise: how far coordinates of one model are correlated.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

import bmatch
from benchmarks import relatives
from benchmarks.paper.claim import Claim, Figure, Size
from benchmarks.paper.smollm2 import batches, model_and_tokenizer
from bmatch import SignedPermutation
from bmatch.streams import correlate_streams

NOISES = (0.1, 0.2)
POSITIVE = (0.25, 0.5, 0.75)
TOKENS = (256, 1024)
LAYER = 12


def measure(seed: int, size: Size) -> Iterator[Figure]:
    """Share of coordinates recovered: the index, by the raw correlation; index and sign, by its
    magnitude.
    """
    model, _ = model_and_tokenizer(size.device)
    d = model.config.hidden_size
    rng = np.random.default_rng(seed)
    for noise in NOISES:
        noisy = relatives.noisy(model, noise, seed)
        for tokens in TOKENS:
            read = batches(seed, tokens, size.device)
            for sites, where in (([LAYER], f"after block {LAYER}"), ("all", "all sites")):
                # One correlation serves all gauges: rows and signs of it are the gauge's.
                c = correlate_streams(noisy, model, read, sites).correlation.cpu().numpy()
                case = f"noise {noise}, {tokens} tokens, {where}"
                for positive in POSITIVE:
                    truth = planted(rng, d, positive)
                    moved = truth.sign[:, None] * c[truth.perm]
                    index = bmatch.match(moved, "permutation").gauge.perm == truth.perm
                    both = bmatch.match(moved).gauge.agreement(truth)
                    share = f"{case}, {positive:.0%} positive"
                    yield Figure(share, "raw", "recovered", "1", float(index.mean()))
                    yield Figure(share, "sign-marginalised", "recovered", "1", both)
    read = batches(seed, TOKENS[-1], size.device)
    for sites, where in (([LAYER], f"after block {LAYER}"), ("all", "all sites")):
        own = correlate_streams(model, model, read, sites).correlation.abs()
        apart = own[~torch.eye(d, dtype=torch.bool, device=own.device)].view(d, d - 1)
        for metric, value in {
            "mean |correlation| of two coordinates": apart.mean(),
            "largest of a row, mean": apart.max(1).values.mean(),
        }.items():
            yield Figure(f"{TOKENS[-1]} tokens, {where}", "premise", metric, "1", float(value))


def planted(rng: np.random.Generator, d: int, positive: float) -> SignedPermutation:
    """A gauge with this share of positive signs."""
    sign = np.where(rng.permutation(d) < round(positive * d), 1, -1).astype(np.int8)
    return SignedPermutation(rng.permutation(d), sign)


CLAIM = Claim(
    "Matching on raw correlations recovers the share of positive signs at most; "
    "sign-marginalised matching has no such ceiling",
    "the share; ceiling removed",
    {"noise, of a matrix's spread": NOISES, "tokens": TOKENS, "model": "SmolLM2-135M"},
    measure,
)
