"""SmolLM2-135M-Instruct for the claims that are measured on it: read once, tokens by seed."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bmatch.models.smollm2 import read_smollm2
from bmatch.models.text import default_text, token_batches
from bmatch.streams import correlate_streams

LENGTH = 256
TOKENS = 2048
"""That coordinates are matched on."""


@cache
def model_and_tokenizer(device: str) -> tuple[Any, Any]:
    """In float32, in eval mode."""
    model, tokenizer = read_smollm2()
    return model.eval().to(device), tokenizer


def batches(seed: int, tokens: int, device: str) -> list[torch.Tensor]:
    """So many tokens of Python's language reference, int64 ``[B, T]``, from a place of the seed's.

    The first token of a sequence is read and does not count.
    """
    return [part.to(device) for part in cut(seed, tokens, LENGTH)]


def cut(seed: int, tokens: int, length: int) -> list[torch.Tensor]:
    """The same in sequences of another length, on the CPU."""
    _, tokenizer = model_and_tokenizer("cpu")
    articles = list(default_text())
    start = seed * len(articles) // 16 % len(articles)
    text = articles[start:] + articles[:start]
    return list(token_batches(tokenizer, text, tokens, length))


def correlation(layer: int, seed: int, device: str) -> npt.NDArray[np.float32]:
    """Among coordinates of the stream after a block, on `TOKENS` tokens; [D, D]."""
    model, _ = model_and_tokenizer(device)
    found = correlate_streams(model, model, batches(seed, TOKENS, device), [layer + 1])
    return found.correlation.cpu().numpy()
