"""Two runs from one base, trained on different text, every checkpoint in a gauge of its own.

Byte-level Llamas; run A reads Python's language reference, run B Python sources. The recipes are
those in which paths, ends and the way by the base come apart, or small enough for tests. Models
of all seeds are trained at once, which takes half of the time.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from torch.func import functional_call, stack_module_state, vmap

import bmatch
from benchmarks import relatives


class Recipe(NamedTuple):
    """Sizes of the model, how it is trained, and what is read of it.

    Attributes
    ----------
    width, layers : int
    batch, length : int
        Sequences of a step, and their tokens.
    warm_up : int
        Steps until the rate is whole, in the base's training and in each run.
    base_steps, steps : int
    base_rate, rate : float
    every : int
        Steps from checkpoint to checkpoint.
    site, tokens : int
        Where the stream is read, and how many tokens.
    """

    width: int
    layers: int
    batch: int
    length: int
    warm_up: int
    base_steps: int
    base_rate: float
    steps: int
    rate: float
    every: int
    site: int
    tokens: int


TINY = Recipe(32, 2, 4, 32, 50, 100, 3e-3, 300, 2e-3, 5, 1, 256)
"""Seconds."""
SEPARATING = Recipe(128, 4, 8, 64, 50, 200, 3e-3, 1500, 3e-3, 50, 2, 64)
"""Minutes. The base is immature, and the texts differ."""


class Runs(NamedTuple):
    """What was kept of two runs from one base.

    Attributes
    ----------
    base : model
    a, b : dict of int to model
        By step.
    """

    base: Any
    a: dict[int, Any]
    b: dict[int, Any]

    def path(self, step: int, through: Container[int] | None = None) -> tuple[list[int], list[Any]]:
        """Steps and models from A at a step to the base, and on to B at the same step.

        Through those steps, all that were kept by default.
        """
        kept = [k for k in sorted(self.a) if k <= step and (through is None or k in through)]
        models = [*(self.a[k] for k in reversed(kept)), self.base, *(self.b[k] for k in kept)]
        return [*reversed(kept), 0, *kept], models


def two_runs(
    recipe: Recipe, seeds: Sequence[int], kept: Container[int] | None = None
) -> Iterator[Runs]:
    """Train a base from each seed, and both runs from it.

    Parameters
    ----------
    recipe : Recipe
    seeds : sequence of int
    kept : container of int, optional
        The steps that are kept. Default: every so many as the recipe says.
    """
    reference = relatives.texts()[0]
    config = transformers.LlamaConfig(
        vocab_size=256,
        hidden_size=recipe.width,
        intermediate_size=2 * recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=0,
    )
    bases = []
    for seed in seeds:
        torch.manual_seed(seed)
        bases.append(transformers.LlamaForCausalLM(config))
    read = [reference] * len(seeds)
    *_, (_, weights) = _trained(bases, read, recipe, seeds, recipe.base_steps, recipe.base_rate)
    bases = [_model(config, weights, k) for k in range(len(seeds))]
    yield from runs_from(bases, recipe, seeds, kept)


def runs_from(
    bases: Sequence[Any], recipe: Recipe, seeds: Sequence[int], kept: Container[int] | None = None
) -> Iterator[Runs]:
    """Train both runs from each of these bases."""
    texts = relatives.texts()[:2]  # the reference, and sources
    runs = [base for base in bases for _ in texts]
    orders = [seed + 1000 * (1 + run) for seed in seeds for run in range(2)]
    wanted = range(0, recipe.steps + 1, recipe.every) if kept is None else kept
    found: list[dict[int, Any]] = [{} for _ in runs]
    of_runs = texts * len(seeds)
    for step, weights in _trained(runs, of_runs, recipe, orders, recipe.steps, recipe.rate):
        if step in wanted:
            for k, of_run in enumerate(found):
                of_run[step] = _model(bases[0].config, weights, k)
    for k, base in enumerate(bases):
        yield Runs(base, *found[2 * k : 2 * k + 2])


def _model(config: Any, weights: dict[str, torch.Tensor], k: int) -> Any:
    """The k-th of the models that are trained, as it is now."""
    model: Any = transformers.LlamaForCausalLM(config)
    model.load_state_dict({name: w[k] for name, w in weights.items()}, strict=False)
    return model.eval()


def _trained(
    models: Sequence[Any],
    texts: Sequence[torch.Tensor],
    recipe: Recipe,
    seeds: Sequence[int],
    steps: int,
    rate: float,
) -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
    """Train models, each on its text; yield every step's number and the weights, [M, ...] each."""
    plain = type(models[0])._from_config(models[0].config, attn_implementation="eager")
    weights, buffers = stack_module_state(list(models))

    def loss(weights: Any, buffers: Any, batch: torch.Tensor) -> torch.Tensor:
        read = {"input_ids": batch, "labels": batch, "use_cache": False}
        found: torch.Tensor = functional_call(plain, (weights, buffers), kwargs=read).loss
        return found

    optimizer = torch.optim.AdamW(weights.values(), rate, (0.9, 0.95), weight_decay=0.1, fused=True)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = rate * min(1.0, step / recipe.warm_up)
        read = zip(texts, generators, strict=True)
        batches = torch.stack(
            [relatives.drawn(text, recipe.batch, recipe.length, g) for text, g in read]
        )
        optimizer.zero_grad()
        torch.autograd.backward(vmap(loss)(weights, buffers, batches).sum())
        with torch.no_grad():
            _clip([weight.grad for weight in weights.values()])
            optimizer.step()
        yield step, weights


def _clip(gradients: list[Any]) -> None:
    """Each model's gradient to norm 1 at most; gradients are [M, ...]."""
    square = sum(gradient.flatten(1).square().sum(1) for gradient in gradients)
    factor = (1 / (square.sqrt() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))


def in_gauges(models: list[Any], seed: int) -> tuple[list[Any], bmatch.SignedPermutation]:
    """Each model in a gauge of its own, and the truth from the first's to the last's."""
    rng = np.random.default_rng(seed)
    width = models[0].config.hidden_size
    gauges = [bmatch.SignedPermutation.random(width, seed=rng) for _ in models]
    carried = [relatives.in_gauge(m, g) for m, g in zip(models, gauges, strict=True)]
    return carried, gauges[-1] @ gauges[0].inverse()
