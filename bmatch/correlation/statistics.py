"""What stays of all tokens seen: their number, means, and squares and comoments about the means.

New tokens come as sums about a centre of their own. They move the means, and what squares and
comoments about the old means lack is an outer product; two sets of statistics merge in the same
way. So nothing is ever summed about a point far from the data.

T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the sample variance: analysis and
recommendations", The American Statistician 37 (1983).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from bmatch.correlation.products import add_outer
from bmatch.kernels import reference

TENSORS = ("comoment", "target_mean", "source_mean", "target_square", "source_square")
"""Of `Statistics`, as files have them."""


@dataclass(frozen=True, eq=False)
class CentredSums:
    """What some tokens of a stream add to its statistics, float64 [D] or [S, D] each."""

    centre: torch.Tensor  # what was subtracted from the tokens before they were summed
    total: torch.Tensor  # sums about the centre
    square: torch.Tensor  # sums of squares about the tokens' own mean


class Statistics:
    """Moments of pairs of token streams, one pair a site.

    Parameters
    ----------
    sites, target_dim, source_dim : int
        S, D1 and D2.
    device : torch device, optional
        Where they live. Default: the CPU.

    Attributes
    ----------
    count : int
        Tokens seen, the same at all sites.
    comoment : float64 tensor [S, D1, D2]
        Sums of products about the means.
    target_mean, source_mean, target_square, source_square : float64 tensors [S, D1] and [S, D2]
        Means, and sums of squares about them.
    """

    def __init__(
        self,
        sites: int,
        target_dim: int,
        source_dim: int,
        device: torch.device | str | None = None,
    ) -> None:
        def zeros(*shape: int) -> torch.Tensor:
            # Ordinary tensors can be updated under inference_mode, too, its own only there.
            with torch.inference_mode(False):
                return torch.zeros((sites, *shape), dtype=torch.float64, device=device)

        self.count = 0
        self.comoment = zeros(target_dim, source_dim)
        self.target_mean = zeros(target_dim)
        self.source_mean = zeros(source_dim)
        self.target_square = zeros(target_dim)
        self.source_square = zeros(source_dim)

    def move(
        self, sites: int | slice, seen: int, count: int, target: CentredSums, source: CentredSums
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Move means and squares of one site or several by `count` new tokens.

        `seen` tokens lie behind these means: within a batch more than `self.count`.

        Returns
        -------
        left, right : float64 [2, D1] and [2, D2], for several sites [S, 2, D1] and [S, 2, D2]
            What has to be added to the comoments, ``left^T right``, beside the new tokens' products
            about the centres.
        """
        dy = move(self.target_mean[sites], self.target_square[sites], target, seen, count)
        dx = move(self.source_mean[sites], self.source_square[sites], source, seen, count)
        weight = seen * count / (seen + count)
        left = torch.stack([target.total / -count, dy * weight], -2)
        return left, torch.stack([source.total, dx], -2)

    def of_site(self, s: int) -> Statistics:
        """The s-th site by itself: what is added to it there, is added here, but for the count."""
        one = object.__new__(Statistics)
        one.count = self.count
        for name in TENSORS:
            setattr(one, name, getattr(self, name)[s : s + 1])
        return one

    @torch.no_grad()
    def merge(self, other: Statistics) -> None:
        """Add the tokens that `other`, of the same sites and widths, has seen."""
        if other.count == 0:
            return
        self.comoment += other.comoment
        target, source = (
            CentredSums(mean, torch.zeros_like(mean), square)
            for mean, square in (
                (other.target_mean, other.target_square),
                (other.source_mean, other.source_square),
            )
        )
        add_outer(self.comoment, *self.move(slice(None), self.count, other.count, target, source))
        self.count += other.count

    @torch.no_grad()
    def scales(
        self, s: int, scaling: Callable[..., torch.Tensor] = reference.scales
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What scales the s-th site's comoments to correlations, 0 for constant channels.

        `scaling` is `reference.scales` or a kernel that does the same.

        Returns
        -------
        float64 [D1] and [D2]

        Raises
        ------
        ValueError
            If fewer than two tokens have been seen, or the squares overflowed.
        """
        if self.count < 2:
            raise ValueError(
                f"a correlation needs at least 2 tokens, and {self.count} have been counted"
            )
        scale = scaling(
            (self.target_mean[s], self.source_mean[s]),
            (self.target_square[s], self.source_square[s]),
            self.count,
        )
        if math.isnan(scale.amax()):
            raise ValueError(
                "the moments overflowed float64: activations of this size cannot be correlated"
            )
        d1 = self.target_mean.shape[1]
        return scale[:d1], scale[d1:]


def move(
    mean: torch.Tensor, square: torch.Tensor, new: CentredSums, seen: int, count: int
) -> torch.Tensor:
    """Move means of `seen` tokens, and squares about them, by `count` new ones, in place.

    Chan, Golub and LeVeque, equation 2.1, for one stream. Returns how far the new tokens' mean lies
    from that of the others.
    """
    delta = new.centre + new.total / count - mean
    square.add_(new.square).add_(delta.square(), alpha=seen * count / (seen + count))
    mean.add_(delta, alpha=count / (seen + count))
    return delta


def statistics_bytes(sites: int, target_dim: int, source_dim: int) -> int:
    """What `Statistics` takes."""
    return 8 * sites * (target_dim * source_dim + 2 * (target_dim + source_dim))
