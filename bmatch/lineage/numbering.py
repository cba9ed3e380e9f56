"""The test of the numbering: hidden units of a stranger are numbered anew.

Null hypothesis: the law of one model, given the other, stays what it is when units of its own gauge
spaces (neurons, channels of a head's values) are swapped. So it is, exactly, for models that were
initialised and trained by themselves: initial weights of a layer's units are drawn alike, and
training treats all units alike.

Units of a space are divided into references and pairs. A unit's place among the references, the
cosines of its rows with theirs, depends on no basis of the stream: signed permutations, rotations
and gains per token leave it as it is. Of a pair (k, l), the difference of the places of k and l in
one model is held against that in the other: under the null their inner product is positive as often
as a fair coin shows heads, and the coins are independent, for a swap of k and l turns its sign and
nothing else. The p-value is the binomial tail, exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from bmatch.architecture.spaces import Axes, Space
from bmatch.models.weight_evidence import Weights, bare_name


@dataclass(frozen=True)
class Coins:
    """Coins thrown, and how many showed that both models number their units alike."""

    heads: int
    thrown: int

    @property
    def log10_p(self) -> float:
        """Decimal logarithm of the chance of so many heads or more, 0 at most."""
        return log10_binomial_tail(self.heads, self.thrown)


def numbering(target: Weights, source: Weights, spaces: Axes, seed: int = 0) -> Coins:
    """Throw a coin for every pair of hidden units.

    Parameters
    ----------
    target, source : Weights
        Of one width and architecture; tensors that one of them lacks tell nothing.
    spaces : Axes
        Gauge spaces of the architecture, as `bmatch.architecture.derive` finds them.
    seed : int
        Of the division into references and pairs.
    """
    generator = torch.Generator().manual_seed(seed)
    heads = thrown = 0
    for space in spaces.spaces:
        if space is spaces.residual or space.size < 4:
            continue
        order = torch.randperm(space.size, generator=generator)
        split = space.size // 3
        references, pairs = order[:split], order[split:]
        pairs = pairs[: len(pairs) // 2 * 2].view(2, -1)
        agree: torch.Tensor | None = None
        for y, x in _rows(space, target, source):
            ours, theirs = (
                _difference(rows, references, pairs) for rows in (y, x)
            )  # [coins, references] each
            product = (ours * theirs).sum(1)
            agree = product if agree is None else agree + product
        if agree is not None:
            heads += int((agree > 0).sum())
            thrown += len(agree)
    return Coins(heads, thrown)


def _difference(rows: torch.Tensor, references: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """Of the places of two units among the references, for all pairs."""
    unit = torch.nn.functional.normalize(rows.double(), dim=1)
    return (unit[pairs[0]] - unit[pairs[1]]) @ unit[references].T


def _rows(
    space: Space, target: Weights, source: Weights
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Rows ``[units, D]`` of every tensor that joins single units with the stream."""
    ours, theirs = ({bare_name(name): name for name in w.names} for w in (target, source))
    for member in space.members:
        name = bare_name(member.tensor)
        if len(member.offsets) != 1 or name not in ours or name not in theirs:
            continue
        both = []
        for weights, names in ((target, ours), (source, theirs)):
            rule = weights.axes.rule(names[name])
            if rule is None or [signed for _, signed in rule.axes] != [True]:
                break
            tensor = weights.read(names[name]).detach().cpu()
            axis, stream = member.axis, rule.axes[0][0]
            if member.slab is not None:
                tensor, axis, stream = tensor[member.slab], axis - 1, stream - 1
            if tensor.ndim != 2 or axis == stream:
                break
            places = torch.as_tensor(member.entries(space.size)[:, 0])
            rows = tensor.movedim(stream, 1)
            if int(places.max()) >= len(rows):
                break
            both.append(rows[places])
        if len(both) == 2 and both[0].shape == both[1].shape:
            yield both[0], both[1]


def log10_binomial_tail(heads: int, thrown: int) -> float:
    """``log10 P(X >= heads)`` of X heads among fair coins."""
    if heads <= 0:
        return 0.0
    log_terms = [
        math.lgamma(thrown + 1) - math.lgamma(k + 1) - math.lgamma(thrown - k + 1)
        for k in range(heads, thrown + 1)
    ]
    most = max(log_terms)
    total = most + math.log(math.fsum(math.exp(term - most) for term in log_terms))
    return min(0.0, (total - thrown * math.log(2)) / math.log(10))
