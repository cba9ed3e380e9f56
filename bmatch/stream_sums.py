"""What stays of the stretches of two streams: moments, blocks of tokens and decoys, in their order.

Whoever read a stretch, its moments are added here by the first rank, site by site, so that one
matrix at a time crosses from rank to rank.
"""

from __future__ import annotations

import numpy as np
import torch

from bmatch.correlation.site_moments import SiteMoments
from bmatch.correlation.statistics import TENSORS, Statistics
from bmatch.correlation.stretches import block_ends
from bmatch.jobs.ranks import Ranks
from bmatch.jobs.resume import Part
from bmatch.verdict.bootstrap import TokenBlocks
from bmatch.verdict.decoys import RotatedSource

_VECTORS = TENSORS[1:]


class StreamSums:
    """Sums of the first stretches of a stream.

    Parameters
    ----------
    moments : SiteMoments
        Without a token; both streams have one width.
    count : int
        How many stretches there will be.

    Attributes
    ----------
    moments : SiteMoments
    blocks : TokenBlocks
    rotated : RotatedSource
        To be handed the source's first tokens by the caller.
    stretches : int
        How many have been added.
    """

    def __init__(self, moments: SiteMoments, count: int) -> None:
        self.moments = moments
        self.blocks = TokenBlocks()
        self.rotated = RotatedSource(moments.source_dim, moments.device)
        self.stretches = 0
        self._ends = block_ends(count)

    def add(self, stretch: SiteMoments) -> None:
        """Add the next stretch."""
        found = stretch.statistics
        for s in range(len(self.moments.sites)):
            self.moments.statistics.of_site(s).merge(found.of_site(s))
        self._added(stretch.count)

    def receive(self, ranks: Ranks, rank: int) -> None:
        """Add the next stretch, which that rank hands over by `send`."""
        width, device = self.moments.source_dim, self.moments.device
        counted = torch.zeros(1, dtype=torch.int64, device=device)
        ranks.receive(counted, rank)
        one = Statistics(1, width, width, device)
        one.count = int(counted)
        vectors = torch.empty((len(_VECTORS), width), dtype=torch.float64, device=device)
        for s in range(len(self.moments.sites)):
            ranks.receive(vectors, rank)
            ranks.receive(one.comoment, rank)
            for name, values in zip(_VECTORS, vectors, strict=True):
                getattr(one, name)[0] = values
            self.moments.statistics.of_site(s).merge(one)
        self._added(one.count)

    def _added(self, tokens: int) -> None:
        self.moments.statistics.count += tokens
        self.blocks.pass_over(tokens)
        self.stretches += 1
        if self.stretches in self._ends and self.moments.count > 1:
            self.blocks.end(mean_correlation(self.moments))

    # -- kept between jobs ----------------------------------------------------------------

    def state(self) -> Part:
        """What `restore` goes on from."""
        decoys, read = self.rotated.state()
        statistics = self.moments.statistics
        tensors = {name: getattr(statistics, name).cpu().numpy() for name in TENSORS}
        tensors |= {f"decoys.{name}": values for name, values in decoys.items()}
        tensors["block_tokens"] = np.array(self.blocks.tokens, np.int64)
        width = self.moments.source_dim
        correlations = [block.numpy() for block in self.blocks.correlations]
        tensors["block_correlations"] = np.array(correlations, np.float32).reshape(-1, width, width)
        counts = {"tokens": self.moments.count, "stretches": self.stretches, "decoy_tokens": read}
        return tensors, {name: str(count) for name, count in counts.items()}

    def restore(self, part: Part) -> None:
        """Go on from the `state` of another with the same sites, widths and stretches."""
        tensors, header = part
        for name in TENSORS:
            getattr(self.moments.statistics, name).copy_(torch.from_numpy(tensors[name]))
        self.moments.statistics.count = int(header["tokens"])
        self.stretches = int(header["stretches"])
        decoys = {k.removeprefix("decoys."): v for k, v in tensors.items() if "decoys." in k}
        self.rotated.restore(decoys, int(header["decoy_tokens"]))
        for tokens, correlation in zip(
            tensors["block_tokens"], tensors["block_correlations"], strict=True
        ):
            self.blocks.pass_over(int(tokens) - self.blocks.passed)
            self.blocks.end(torch.from_numpy(correlation))
        self.blocks.pass_over(self.moments.count - self.blocks.passed)


def send(stretch: SiteMoments, ranks: Ranks) -> None:
    """Hand the moments of a stretch to the first rank, which adds them by `StreamSums.receive`."""
    found = stretch.statistics
    ranks.send(torch.tensor([found.count], device=stretch.device))
    for s in range(len(stretch.sites)):
        ranks.send(torch.stack([getattr(found, name)[s] for name in _VECTORS]))
        ranks.send(found.comoment[s : s + 1])


def mean_correlation(moments: SiteMoments) -> torch.Tensor:
    """Over the sites, float32 [D, D]."""
    total = torch.zeros(moments.target_dim, moments.source_dim, device=moments.device)
    for s in range(len(moments.sites)):
        total += moments.correlation(s)
    return total / len(moments.sites)


def mean_covariance(moments: SiteMoments) -> torch.Tensor:
    """Over the sites, in the unit of the streams' own spread, float64 [D, D]."""
    shape = moments.target_dim, moments.source_dim
    total = torch.zeros(shape, device=moments.device, dtype=torch.float64)
    for s in range(len(moments.sites)):
        total += moments.cross_covariance(s)
    found = moments.statistics
    spread = (found.target_square.sum() * found.source_square.sum()).sqrt()
    unit = spread / (moments.count * moments.target_dim)
    return total / unit.clamp_min(torch.finfo(torch.float64).tiny)
