"""Scores of the coordinates of a stream: what index-level claims are usually chosen by.

All are taken at one site, over the tokens that count (`activations.counted_tokens`). Activations,
gradients and correlations turn with their coordinates; gradient x activation and the effect of an
ablation do not, since the sign of a coordinate cancels in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from bmatch.models.activations import Reader, counted_tokens, replaced_stream, run, split_batch

Tokens: TypeAlias = "torch.Tensor | Mapping[str, torch.Tensor]"
Scores: TypeAlias = npt.NDArray[np.float64]


class Measure(NamedTuple):
    """A score of coordinates, or of pairs of them.

    Attributes
    ----------
    scores : callable
        From reader, batches, site and how many are wanted to float64 [D] or [D, D]; NaN where it
        was not measured.
    signed : bool
        Whether it turns with its coordinates.
    """

    scores: Callable[[Reader, Sequence[Tokens], int, int], Scores]
    signed: bool


def activation(reader: Reader, batches: Sequence[Tokens], site: int, _top: int) -> Scores:
    """Mean of the stream, [D]."""
    mean: Scores = _stream(reader, batches, site).mean(0)
    return mean


def correlation(reader: Reader, batches: Sequence[Tokens], site: int, _top: int) -> Scores:
    """Of each pair of coordinates, [D, D]; NaN on the diagonal."""
    read = _stream(reader, batches, site)
    with np.errstate(invalid="ignore"):  # a coordinate that is constant
        found = np.asarray(np.nan_to_num(np.corrcoef(read.T)))
    np.fill_diagonal(found, np.nan)
    return found


def gradient(reader: Reader, batches: Sequence[Tokens], site: int, _top: int) -> Scores:
    """Mean over tokens of the gradient of the loss by the stream, [D]."""
    mean: Scores = np.concatenate([g for g, _ in _gradients(reader, batches, site)]).mean(0)
    return mean


def gradient_x_activation(
    reader: Reader, batches: Sequence[Tokens], site: int, _top: int
) -> Scores:
    """Sum over tokens of gradient times stream, [D]: what first order says the stream adds."""
    found: Scores = np.sum([(g * x).sum(0) for g, x in _gradients(reader, batches, site)], axis=0)
    return found


def ablation(reader: Reader, batches: Sequence[Tokens], site: int, top: int) -> Scores:
    """What the loss rises by when a coordinate is set to zero, nats, [D].

    A forward pass for each of the `top` coordinates of largest |gradient x activation|; others are
    not measured.
    """
    order = np.argsort(-np.abs(gradient_x_activation(reader, batches, site, top)))[:top]
    found = np.full(reader.axes.dim, np.nan)
    before = _loss(reader, batches)
    for index in order.tolist():

        def without(stream: torch.Tensor, index: int = index) -> torch.Tensor:
            changed = stream.clone()
            changed[..., index] = 0
            return changed

        with replaced_stream(reader, site, without):
            found[index] = _loss(reader, batches) - before
    return found


MEASURES = {
    "activation": Measure(activation, True),
    "correlation": Measure(correlation, True),
    "gradient": Measure(gradient, True),
    "gradient_x_activation": Measure(gradient_x_activation, False),
    "ablation": Measure(ablation, False),
}
"""By name, as files of claims have it."""


def _stream(reader: Reader, batches: Sequence[Tokens], site: int) -> Scores:
    """All tokens that count, [T, D]."""
    kept: list[npt.NDArray[Any]] = []
    for batch in batches:

        def receive(_site: int, stream: torch.Tensor, batch: Tokens = batch) -> None:
            counted = counted_tokens(batch).to(stream.device)
            kept.append(stream[counted].double().cpu().numpy())

        run(reader, batch, [site], receive)
    return np.concatenate(kept)


def _gradients(
    reader: Reader, batches: Sequence[Tokens], site: int
) -> Iterable[tuple[Scores, Scores]]:
    """Gradient of the summed loss, and stream, of each batch's tokens that count, [T, D] each."""
    for batch in batches:
        leaves: list[torch.Tensor] = []

        def leaf(stream: torch.Tensor, leaves: list[torch.Tensor] = leaves) -> torch.Tensor:
            leaves.append(stream.detach().requires_grad_())  # what comes before needs no graph
            return leaves[-1]

        with torch.enable_grad(), replaced_stream(reader, site, leaf):
            losses = _losses(reader, batch)
            (found,) = torch.autograd.grad(losses.sum(), leaves)
        counted = counted_tokens(batch).to(found.device)
        yield (
            found[counted].double().cpu().numpy(),
            leaves[0].detach()[counted].double().cpu().numpy(),
        )


def _loss(reader: Reader, batches: Sequence[Tokens]) -> float:
    with torch.inference_mode():
        return float(torch.cat([_losses(reader, batch) for batch in batches]).double().mean())


def _losses(reader: Reader, batch: Tokens) -> torch.Tensor:
    """Next-token cross-entropy at every attended token that has a successor, nats, [N]."""
    tokens, mask = split_batch(batch)
    device = reader.device
    tokens = tokens.to(device)
    mask = torch.ones_like(tokens) if mask is None else mask.to(device)
    logits = reader.model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
    both = (mask[:, :-1] != 0) & (mask[:, 1:] != 0)
    return torch.nn.functional.cross_entropy(
        logits[:, :-1][both].float(), tokens[:, 1:][both], reduction="none"
    )
