"""What is left of a steering vector's effect in another gauge: with its signs, and without.

Steering the model in gauge g with w is steering the model at home with g^-1 w: so one model serves
all gauges, and of each run one gauge is checked on a model that was really carried. Without its
signs a carried vector v acts as s v, with s the gauge's signs. Its effect is split into the odd
part, (E(+v) - E(-v)) / 2, which knows a direction, and the even part, the damage that any vector of
its norm does. To first order the odd part is the product of v with the gradient g of the score, so
what is kept is sum(s v g) / sum(v g).

"Permutation alone" is the true gauge without its signs; "raw match" the permutation that matching
without signs finds: partners where signs are positive, others where they are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from benchmarks import relatives
from benchmarks.ceiling import planted
from benchmarks.paper.claim import Figure
from bmatch import SignedPermutation
from bmatch.matching import gauge_of
from bmatch.models.activations import Reader, replaced_stream
from bmatch.transport import vector

Array: TypeAlias = npt.NDArray[np.float32]
POSITIVE = (0.2, 0.35, 0.5, 0.65, 0.8)
GAUGES = {False: 4, True: 16}
"""So many of each share of positive signs in a run, at the quick and at the full size."""


class Task(NamedTuple):
    """A behaviour that is steered.

    Attributes
    ----------
    layer : int
        After which block the vector is added.
    direction : float32 tensor [D]
    score : callable
        Of a model, in nats; a tensor of N scores where the stream of one input becomes N on its
        way: blocks before the vectors run once for all of them.
    """

    layer: int
    direction: torch.Tensor
    score: Callable[[Any], torch.Tensor]


def effect(model: Any, task: Task, direction: torch.Tensor) -> tuple[float, float]:
    """The odd and the even part of what a vector and its opposite do to the score."""
    odd, even = effects(model, task, direction[None])
    return float(odd[0]), float(even[0])


def effects(model: Any, task: Task, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of several vectors, [N, D], at once: two tensors [N]."""
    with torch.no_grad():
        none = torch.zeros_like(directions[:1])
        plain, *steered = _steered(model, task, torch.cat([none, directions, -directions]))
        up, down = (torch.stack(steered) - plain).chunk(2)
    return (up - down) / 2, (up + down) / 2


def gradient(model: Any, task: Task) -> torch.Tensor:
    """Of the score, with respect to a vector that is added; [D]."""
    offset = torch.zeros_like(task.direction, requires_grad=True)
    (found,) = torch.autograd.grad(_steered(model, task, offset[None]).sum(), offset)
    return found


def _steered(model: Any, task: Task, directions: torch.Tensor) -> torch.Tensor:
    """Scores under each of several vectors, [N, D] to [N]."""
    added = directions[:, None]  # of a stream [1, T, D] it makes [N, T, D]
    with replaced_stream(Reader.of(model), task.layer + 1, lambda stream: stream + added):
        return task.score(model)


def kept(model: Any, task: Task, correlation: Array, seed: int, full: bool) -> Iterator[Figure]:
    """Shares of the effect at home, over gauges of every share of positive signs.

    Parameters
    ----------
    model : model
    task : Task
    correlation : float32 [D, D]
        Among coordinates of the model's own stream, which raw matching is given in each gauge.
    seed : int
    full : bool
        Whether gauges are many.
    """
    rng = np.random.default_rng(seed)
    v = task.direction
    d = len(v)
    odd, even = effect(model, task, v)
    yield Figure("at home", "none", "odd part of the effect", "nat", odd)
    yield Figure("at home", "none", "even part of the effect", "nat", even)
    truth = planted(d, 0.5, rng)
    carried = relatives.in_gauge(model, truth)
    there = effect(carried, task, vector(v, truth))[0]
    yield Figure("carried model, 50% positive", "signed", "effect kept", "1", there / odd)
    unsigned = effect(carried, task, vector(v, SignedPermutation(truth.perm)))[0]
    at_home = effect(model, task, _signs(truth, v) * v)[0]
    yield Figure(
        "carried model, 50% positive",
        "permutation alone",
        "difference from steering at home",
        "1",
        abs(unsigned - at_home) / abs(odd),
    )
    g = gradient(model, task)
    cases, acting = [], []
    for positive in POSITIVE:
        for _ in range(GAUGES[full]):
            gauge = planted(d, positive, rng)
            raw = gauge_of(np.asarray(gauge.apply(correlation, 0)), "permutation")
            cases.append(f"{positive:.0%} positive")
            acting += [_signs(gauge, v) * v, vector(vector(v, raw), gauge.inverse())]
    shares = effects(model, task, torch.stack(acting))[0] / odd
    measured, by_raw = shares.double().cpu().view(-1, 2).T.numpy()
    for case, without_signs, matched in zip(cases, measured, by_raw, strict=True):
        yield Figure(case, "permutation alone", "effect kept", "1", float(without_signs))
        yield Figure(case, "raw match", "effect kept", "1", float(matched))
    first_order = [float((u * g).sum() / (v * g).sum()) for u in acting[::2]]
    agreement = float(np.corrcoef(measured, first_order)[0, 1])
    yield Figure("all gauges", "sum(s v g) / sum(v g)", "correlation with kept", "1", agreement)


def _signs(gauge: SignedPermutation, like: torch.Tensor) -> torch.Tensor:
    """Of a gauge, by source coordinate: what acting without them leaves at home."""
    at_home = np.empty(gauge.dim, np.float32)
    at_home[gauge.perm] = gauge.sign
    return torch.as_tensor(at_home, device=like.device)
