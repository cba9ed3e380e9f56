"""Streaming moments of paired activations at many sites: tokens pass by, D x D statistics stay.

Channels whose median is not small beside their spread lose it, chunks of tokens are multiplied in
float32 and folded into float64 statistics about the mean of everything seen so far. So neither a
large mean nor a massive activation, wherever in the stream it comes, drowns the variance of the
rest; and a chunk is short enough that its float32 accumulators lose nothing that matters: 10^6
tokens agree with float64 to 1e-6.

A batch is checked (`batch`), loses its shift (`pilot`) and is added to the `statistics` in one of
two ways: on the CPU chunk by chunk (`by_chunks`), on a CUDA device by Triton kernels that serve all
sites in one launch (`by_kernels`). A site's statistics do not depend on the sites beside it, to the
bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import torch

from bmatch.correlation import by_chunks, by_kernels
from bmatch.correlation.batch import Batch, checked_batch
from bmatch.correlation.chunks import TokenStream
from bmatch.correlation.pilot import pilot_shifts
from bmatch.correlation.statistics import Statistics, statistics_bytes
from bmatch.kernels import reference

PRECISIONS = ("highest", "high", "medium")


@dataclass(frozen=True, eq=False)
class PendingUpdate:
    """A batch on its way: checked and, on a GPU, being summed; nothing has been added yet.

    Attributes
    ----------
    batch : Batch
    shifts : pair of float32 or float64 [S, D1] and [S, D2]
        What is subtracted before anything is multiplied.
    sums : by_kernels.KernelSums or None
        What the kernels are finding out; None where the batch is added in chunks.
    """

    batch: Batch
    shifts: tuple[torch.Tensor, torch.Tensor]
    sums: by_kernels.KernelSums | None


class SiteMoments:
    """First and second moments of pairs of token streams, one pair a site.

    Parameters
    ----------
    sites : sequence of int or str
        By which numbers, or names, messages call the sites; S is how many there are.
    target_dim, source_dim : int
        Widths D1 and D2 of the two streams, which hold the same tokens, the same at all sites.
    device : torch device, optional
        Where the statistics live and where batches must come from. Default: the CPU.
    precision : {"highest", "high", "medium"}
        As for `bmatch.CrossMoments`.

    Attributes
    ----------
    statistics : Statistics
        Of all sites.
    batches : int
        Batches added.
    """

    def __init__(
        self,
        sites: Sequence[int | str],
        target_dim: int,
        source_dim: int,
        device: torch.device | str | None = None,
        precision: str = "highest",
    ) -> None:
        if target_dim < 1 or source_dim < 1:
            raise ValueError(f"widths must be at least 1, got {target_dim} and {source_dim}")
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be 'highest', 'high' or 'medium', got {precision!r}")
        if len(sites) == 0:
            raise ValueError("sites must name at least one site, got none")
        self.sites = tuple(sites)
        self.target_dim = target_dim
        self.source_dim = source_dim
        self.precision = precision
        self.batches = 0
        self.statistics = Statistics(len(sites), target_dim, source_dim, device)
        self.device = self.statistics.comoment.device

    @property
    def count(self) -> int:
        """Tokens seen, the same at all sites."""
        return self.statistics.count

    # -- streaming ------------------------------------------------------------------------

    def update(
        self, target: torch.Tensor, source: torch.Tensor, mask: torch.Tensor | None = None
    ) -> None:
        """Add a batch of paired tokens to every site.

        Parameters
        ----------
        target, source : floating [S, ..., D1] and [S, ..., D2]
            Activations of the same tokens, of any shape in between, on the device of the
            statistics. float16 and bfloat16 are read as float32; float64 stays float64.
        mask : bool [...], optional
            True where a token counts, at all sites.

        Raises
        ------
        ValueError
            If shapes or devices do not fit, or a counted token holds NaN or infinity: the
            message names the batch, and the statistics are left as they were.
        TypeError
            If the activations are not floating point or the mask is not boolean.
        """
        self.finish(self.begin(target, source, mask))

    @torch.no_grad()
    def begin(
        self, target: torch.Tensor, source: torch.Tensor, mask: torch.Tensor | None = None
    ) -> PendingUpdate:
        """The half of `update` that waits for nothing; `finish` is the other.

        Between the two the device may be given other work. Only one batch may be on its way, and
        `target` and `source` must stay as they are until it has been added.
        """
        batch = checked_batch(target, source, mask, self.statistics.comoment.shape, self.device)
        if not by_kernels.takes(batch):
            return PendingUpdate(batch, pilot_shifts(batch), None)
        sums = by_kernels.begin(batch, self.precision)
        d1 = self.target_dim
        return PendingUpdate(batch, (sums.shift[:, :d1], sums.shift[:, d1:]), sums)

    @torch.no_grad()
    def finish(self, pending: PendingUpdate) -> None:
        """Add the batch that `begin` checked; raises as `update` does."""
        sums = pending.sums
        if sums is None:
            count = pending.batch.counted()
            self._add_by_chunks(pending, range(len(self.sites)), count)
        else:
            found = sums.read()
            count = found.count
            # What the kernels cannot sum is named by the chunks, or added in float64.
            self._add_by_chunks(pending, found.beyond(), count)
            by_kernels.add(self.statistics, pending.batch, sums, found, self.precision)
        self.statistics.count += count
        self.batches += 1

    def _add_by_chunks(self, pending: PendingUpdate, sites: Sequence[int], count: int) -> None:
        """Add some sites' tokens, of which `count` count, after all of them have been checked."""
        if count == 0 or len(sites) == 0:
            return
        pairs = by_chunks.pairs_of_sites(pending.batch, pending.shifts, sites, count)
        for s, pair in pairs.items():
            for name, stream in zip(("target", "source"), pair, strict=True):
                self._require_finite(name, s, stream)
        for s, pair in pairs.items():
            by_chunks.add(self.statistics, s, pair, self.precision)

    def _require_finite(self, name: str, s: int, stream: TokenStream) -> None:
        found = stream.non_finite()
        if found is not None:
            token, coordinate, value = found
            site = f"site {self.sites[s]}, " if len(self.sites) > 1 else ""
            raise ValueError(
                f"batch {self.batches} (counted from 0): {name} holds {value} at {site}counted "
                f"token {token}, coordinate {coordinate}; the batch was not added"
            )

    def merge(self, other: SiteMoments) -> None:
        """Add the tokens that `other`, of the same sites and widths, has seen."""
        self.statistics.merge(other.statistics)
        self.batches += other.batches

    # -- results --------------------------------------------------------------------------

    @torch.no_grad()
    def correlation(self, s: int) -> torch.Tensor:
        """``C[i, j] = corr(target_i, source_j)`` at the s-th site, float32 ``[D1, D2]``.

        Raises
        ------
        ValueError
            If fewer than two tokens have been seen, or squares overflowed.
        """
        finishing = self._finishing()
        scales = self.statistics.scales(s, finishing.scales)
        correlation: torch.Tensor = finishing.finalise(self.statistics.comoment[s], *scales)
        return correlation

    @torch.no_grad()
    def cross_covariance(self, s: int) -> torch.Tensor:
        """``M[i, j] = cov(target_i, source_j)`` at the s-th site, float64 ``[D1, D2]``.

        Sums over tokens divided by their number. Unlike a correlation it turns with the streams.

        Raises
        ------
        ValueError
            If no token has been seen.
        """
        if self.count == 0:
            raise ValueError("a covariance needs at least 1 token, and 0 have been counted")
        return self.statistics.comoment[s] / self.count

    @torch.no_grad()
    def strongest(self, s: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Each row's strongest source, its correlation and the runner-up, without the matrix.

        Raises
        ------
        ValueError
            As `correlation`.
        """
        finishing = self._finishing()
        scales = self.statistics.scales(s, finishing.scales)
        source, value, second = finishing.strongest(self.statistics.comoment[s], *scales)
        return source, value, second

    def _finishing(self) -> ModuleType:
        """The module whose `scales`, `finalise` and `strongest` suit the device."""
        if not by_kernels.runs_kernels(self.device):
            return reference
        from bmatch.kernels import finalise

        return finalise


def moments_bytes(
    sites: int,
    target_dim: int,
    source_dim: int,
    tokens: int,
    device: torch.device,
    precision: str = "highest",
) -> int:
    """Bytes that `SiteMoments` takes: statistics, and what adding a float32 batch needs.

    Parameters
    ----------
    sites, target_dim, source_dim : int
        S, D1 and D2.
    tokens : int
        Tokens of the largest batch; the batch itself is not counted.
    device, precision
        As for `SiteMoments`.

    Returns
    -------
    int
        ``8 S D1 D2`` for the statistics; beside them on the CPU two products and two chunks of
        each stream of one site, on a CUDA device chunks of all sites as bfloat16 planes, and
        partial sums.
    """
    statistics = statistics_bytes(sites, target_dim, source_dim)
    if by_kernels.runs_kernels(device):
        return statistics + by_kernels.update_bytes(
            sites, target_dim, source_dim, tokens, device, precision
        )
    return statistics + by_chunks.update_bytes(sites, target_dim, source_dim, tokens)
