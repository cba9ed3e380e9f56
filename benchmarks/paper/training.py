"""Byte-level Llamas of 4 layers, trained here: what the claims on fine-tunes are measured on.

The base reads Python's language reference and stays immature; run A goes on with it, run B with
Python sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import transformers

from benchmarks import relatives

CONFIG = {
    "vocab_size": 256,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
}
BASE_STEPS, WARM_UP, RATE = 200, 50, 3e-3
SETTINGS = {
    "model": "Llama, bytes, d = 128, 4 layers, 4 heads, d_ff = 256, tied",
    "steps of the base": BASE_STEPS,
    "AdamW": f"betas .9, .95, decay .1, clip 1, {WARM_UP} steps of warm-up, then {RATE:g}",
    "batch": f"{relatives.BATCH} x {relatives.LENGTH}",
}


class Runs(NamedTuple):
    """A base, and two runs from it: models by the number of their steps."""

    base: Any
    a: dict[int, Any]
    b: dict[int, Any]


def base(seed: int) -> Any:
    """The base of a seed."""
    reference, _, _ = relatives.texts()
    torch.manual_seed(seed)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**CONFIG))
    for _ in relatives.trained(model, reference, BASE_STEPS, seed, WARM_UP):
        pass
    return model


@cache
def runs(seed: int, kept: Sequence[int]) -> Runs:
    """The two runs of a seed, kept after these numbers of steps."""
    return from_base(base(seed), seed, kept)


@cache
def late_runs(seed: int, kept: Sequence[int], after: Sequence[int]) -> Runs:
    """Two more, whose base is the end of run A of `runs`, at the last of the steps `after`."""
    return from_base(runs(seed, after).a[max(after)], seed + 500, kept)


def from_base(start: Any, seed: int, kept: Sequence[int]) -> Runs:
    """Run A on the reference, run B on sources."""
    reference, sources, _ = relatives.texts()
    found: list[dict[int, Any]] = []
    for run, text in enumerate((reference, sources)):
        model = relatives.copied(start).train()
        steps = relatives.trained(model, text, max(kept), seed + 1000 * (1 + run), WARM_UP)
        found.append({step: relatives.copied(model) for step in steps if step in kept})
    return Runs(start.eval(), *found)
