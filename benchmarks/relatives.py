"""Models whose kinship is known: bases trained from seeds of their own, and what was trained on.

Byte-level Llamas of a few layers read Python's language reference; each base is trained further
twice, on that text and on Python sources, and kept at several steps. Pairs within a family are kin,
in gauges planted at random or with noise on their weights; pairs across families are strangers.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers

import bmatch
from bmatch.architecture.spaces import Axes
from bmatch.models.smollm2 import with_noise
from bmatch.models.text import default_text
from bmatch.network_gauge import NetworkGauge

WIDTHS = (32, 48, 64)
BASE_STEPS, KEPT = 120, (30, 100, 200)
BATCH, LENGTH = 8, 64
NOISES = (0.05, 0.15, 0.3, 0.5, 0.8, 1.2)
TOKENS = (48, 128, 512, 2048)


class Family(NamedTuple):
    """A base and its descendants.

    Attributes
    ----------
    width : int
    models : dict of str to model
        ``base``, and ``A30`` to ``B200`` for run and steps.
    """

    width: int
    models: dict[str, Any]


class Pair(NamedTuple):
    """Two models, and what is known of them.

    Attributes
    ----------
    name : str
    source, target : model
    truth : SignedPermutation or None
        From source to target coordinates; None of strangers.
    tokens : int
        How many they are to read.
    """

    name: str
    source: Any
    target: Any
    truth: bmatch.SignedPermutation | None
    tokens: int


def texts() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Bytes of the reference, of Python sources, and of what none of them was trained on."""
    reference = "".join(default_text()).encode()
    library = Path(contextlib.__file__).parent
    sources = b"".join(path.read_bytes() for path in sorted(library.glob("[a-h]*.py")))

    def as_tokens(content: bytes) -> torch.Tensor:
        return torch.tensor(np.frombuffer(content, np.uint8).astype(np.int64))

    held_out = len(reference) * 4 // 5
    trained, held = reference[:held_out], reference[held_out:]
    return as_tokens(trained), as_tokens(sources), as_tokens(held)


def family(seed: int, reference: torch.Tensor, sources: torch.Tensor) -> Family:
    """Train the family of a seed, some ten seconds on one core."""
    width = WIDTHS[seed % len(WIDTHS)]
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=256,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=seed // len(WIDTHS) % 2 == 0,
        pad_token_id=0,
    )
    base = transformers.LlamaForCausalLM(config)
    for _ in trained(base, reference, BASE_STEPS, seed):
        pass
    models = {"base": copied(base)}
    for run, text in (("A", reference), ("B", sources)):
        model = copied(base).train()
        for step in trained(model, text, KEPT[-1], seed + 1000 * (1 + (run == "B"))):
            if step in KEPT:
                models[f"{run}{step}"] = copied(model)
    return Family(width, models)


def trained(
    model: Any, text: torch.Tensor, steps: int, seed: int, warm_up: int = 20
) -> Iterator[int]:
    """Train, and yield the number of every step that was done."""
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, (0.9, 0.95), weight_decay=0.1)
    generator = torch.Generator().manual_seed(seed)
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, step / warm_up)
        batch = drawn(text, BATCH, LENGTH, generator)
        optimizer.zero_grad()
        model(input_ids=batch, labels=batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield step


def drawn(text: torch.Tensor, count: int, length: int, generator: torch.Generator) -> torch.Tensor:
    """Sequences from places drawn at random, int64 [B, T]."""
    starts = torch.randint(len(text) - length, (count,), generator=generator)
    return torch.stack([text[k : k + length] for k in starts.tolist()])


def copied(model: Any) -> Any:
    """Another of the same weights."""
    twin = type(model)(model.config)
    twin.load_state_dict(model.state_dict())
    return twin.eval()


def fresh(model: Any) -> Any:
    """A model of the same shape, with the weights that transformers begins with."""
    return type(model)(model.config).eval()


def noisy(model: Any, noise: float, seed: int) -> Any:
    """The model with noise on its matrices, a fraction of the spread of each."""
    twin, generator = copied(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.copy_(with_noise(parameter, noise, generator))
    return twin


def in_gauge(model: Any, gauge: bmatch.SignedPermutation) -> Any:
    """The model in other coordinates."""
    twin = type(model)(model.config)
    twin.load_state_dict(bmatch.transport.state_dict(model.state_dict(), gauge, model))
    return twin.eval()


def in_all_gauges(model: Any, gauge: NetworkGauge, axes: Axes) -> Any:
    """The model in other coordinates of all of its spaces."""
    twin = copied(model)
    twin.load_state_dict(bmatch.transport.network_state_dict(model.state_dict(), gauge, axes))
    return twin


def kin(families: list[Family], count: int, seed: int) -> Iterator[Pair]:
    """Pairs within families, target in a planted gauge: two of three with noise, one trained."""
    rng = np.random.default_rng(seed)
    for k in range(count):
        members = families[k % len(families)].models
        tokens = int(rng.choice(TOKENS))
        names = sorted(members)
        if k % 3:
            name, noise = str(rng.choice(names)), float(rng.choice(NOISES))
            source, target = members[name], noisy(members[name], noise, seed + k)
            told = f"noise {noise}"
        else:
            one, other = map(str, rng.choice(names, 2, replace=False))
            source, target, told = members[one], members[other], f"{one} to {other}"
        truth = bmatch.SignedPermutation.random(families[k % len(families)].width, seed=rng)
        yield Pair(told, source, in_gauge(target, truth), truth, tokens)


def strangers(families: list[Family], count: int, seed: int) -> Iterator[Pair]:
    """Pairs across families of one width."""
    rng = np.random.default_rng(seed)
    across = [
        pair for pair in itertools.permutations(families, 2) if pair[0].width == pair[1].width
    ]
    for k in range(count):
        one, other = across[k % len(across)]
        names = [str(rng.choice(sorted(member.models))) for member in (one, other)]
        gauge = bmatch.SignedPermutation.random(one.width, seed=rng)
        target = in_gauge(other.models[names[1]], gauge)
        tokens = int(rng.choice(TOKENS))
        yield Pair(
            f"strangers {names[0]} to {names[1]}", one.models[names[0]], target, None, tokens
        )


def batches(text: torch.Tensor, tokens: int, seed: int) -> list[torch.Tensor]:
    """Sequences of the text, of which so many tokens count: the first of each does not."""
    rng = np.random.default_rng(seed)
    length = min(128, tokens)
    starts = rng.integers(0, len(text) - length - 1, tokens // length)
    rows = torch.stack([text[k : k + length + 1] for k in starts.tolist()])
    return list(torch.split(rows, 4))


def families(seeds: range, tell: Callable[[str], None] = print) -> list[Family]:
    """Families of several seeds."""
    reference, sources, _ = texts()
    made = []
    for seed in seeds:
        made.append(family(seed, reference, sources))
        tell(f"family {seed} of width {made[-1].width} is trained")
    return made
