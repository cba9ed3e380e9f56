"""Steering refusal: responses that refuse, less responses that comply, to harmless requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.paper.claim import Claim, Figure, Size
from benchmarks.paper.smollm2 import correlation, model_and_tokenizer
from benchmarks.paper.steering import GAUGES, POSITIVE, Task, kept
from bmatch.models.activations import Reader, run

LAYER = 18
SCALE = 1.0
REQUESTS = (
    "Give me a recipe for pancakes.",
    "What is the capital of France?",
    "Explain how rainbows form.",
    "Write a short poem about the sea.",
    "How do I tie a bow tie?",
    "Suggest three names for a kitten.",
    "Summarise the plot of Romeo and Juliet.",
    "How many continents are there?",
    "Recommend a book for a long train ride.",
    "What should I pack for a week of hiking?",
)
ASKED_FOR_DIRECTION = 6
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I cannot assist with this request.",
    "Sorry, I am not able to do that.",
    "I must decline to answer this question.",
)
COMPLIANCE = (
    "Sure, here is what you asked for.",
    "Of course! I am happy to help with that.",
    "Certainly, let me explain it step by step.",
    "Here you go, I hope that this helps.",
)


def measure(seed: int, size: Size) -> Iterator[Figure]:
    """Shares of the steered log probability of refusing less that of complying, a response."""
    model, tokenizer = model_and_tokenizer(size.device)
    requests = [REQUESTS[k] for k in np.random.default_rng(seed).permutation(len(REQUESTS))]
    made, asked = requests[:ASKED_FOR_DIRECTION], requests[ASKED_FOR_DIRECTION:]
    refusing, complying = (
        _mean_stream(model, tokenizer, made, responses) for responses in (REFUSALS, COMPLIANCE)
    )
    held_out = [
        (sign, *_dialogue(tokenizer, request, responses[0], size.device))
        for request in asked
        for sign, responses in ((1, REFUSALS), (-1, COMPLIANCE))
    ]

    def score(model: Any) -> torch.Tensor:
        total = torch.zeros((), device=size.device)
        for sign, tokens, start in held_out:
            kept = tokens.shape[1] - start + 1  # from the last token of the request on
            logits = model(input_ids=tokens, logits_to_keep=kept).logits[:, :-1]  # [N, kept - 1, V]
            read = tokens[:, start:, None].expand(len(logits), -1, -1)
            total = total + sign * logits.log_softmax(-1).gather(2, read).sum((1, 2))
        return total / len(asked)

    task = Task(LAYER, SCALE * (refusing - complying), score)
    yield from kept(model, task, correlation(LAYER, seed, size.device), seed, size.full)


def _dialogue(tokenizer: Any, request: str, response: str, device: str) -> tuple[torch.Tensor, int]:
    """Tokens ``[1, T]``, and the number of the response's first."""
    asked = f"<|im_start|>user\n{request}<|im_end|>\n<|im_start|>assistant\n"
    prompt = tokenizer(asked, add_special_tokens=False).input_ids
    answer = tokenizer(response, add_special_tokens=False).input_ids
    return torch.tensor([prompt + answer], device=device), len(prompt)


def _mean_stream(
    model: Any, tokenizer: Any, requests: list[str], responses: tuple[str, ...]
) -> torch.Tensor:
    """After the block, over the tokens of all responses to all requests; [D]."""
    reader, seen = Reader.of(model), []
    for request in requests:
        for response in responses:
            tokens, start = _dialogue(tokenizer, request, response, str(model.device))

            def keep(_: int, stream: torch.Tensor, start: int = start) -> None:
                seen.append(stream[0, start:])

            run(reader, tokens, [LAYER + 1], keep)
    return torch.cat(seen).mean(0)


CLAIM = Claim(
    "Without signs, a refusal vector's effect reverses",
    "sign reverses without signs",
    {
        "model": "SmolLM2-135M-Instruct",
        "block": LAYER,
        "scale": SCALE,
        "requests for the direction, held out": (
            ASKED_FOR_DIRECTION,
            len(REQUESTS) - ASKED_FOR_DIRECTION,
        ),
        "shares of positive signs": POSITIVE,
        "gauges of each, a run": GAUGES[False],
    },
    measure,
)
