"""The function of a model is unchanged under a signed permutation of its residual stream."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from benchmarks import relatives
from benchmarks.objects import logits_of
from benchmarks.paper.claim import Claim, Figure, Size
from benchmarks.paper.smollm2 import batches, model_and_tokenizer
from bmatch import SignedPermutation

TOKENS = 128


def measure(seed: int, size: Size) -> Iterator[Figure]:
    """Greatest difference of logits, as a share of the greatest: of rounding, where it is one."""
    model, _ = model_and_tokenizer(size.device)
    (tokens, *_) = batches(seed, TOKENS, size.device)
    home = logits_of(model, tokens)
    d = model.config.hidden_size
    signs = SignedPermutation(np.arange(d), SignedPermutation.random(d, seed=seed).sign)
    for route, gauge in {
        "signed permutation": SignedPermutation.random(d, seed=seed),
        "signs alone": signs,
    }.items():
        carried = relatives.in_gauge(model, gauge)
        there = logits_of(carried, tokens)
        yield Figure("SmolLM2-135M", route, "difference of logits", "1", _apart(there, home))
        if route == "signs alone":
            with torch.no_grad():
                for name, gains in carried.named_parameters():
                    if name.endswith("norm.weight"):
                        gains.mul_(torch.tensor(signs.sign.tolist(), device=gains.device))
            apart = _apart(logits_of(carried, tokens), home)
            yield Figure(
                "SmolLM2-135M", "signs on the gains, too", "difference of logits", "1", apart
            )


def _apart(there: torch.Tensor, home: torch.Tensor) -> float:
    return float((there - home).abs().max() / home.abs().max())


CLAIM = Claim(
    "The function is unchanged under signed permutations; gains are permuted, never signed",
    "exact",
    {"tokens": TOKENS, "dtype": "float32"},
    measure,
)
