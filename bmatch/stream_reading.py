"""Two models read a batch, and their streams of all sites lie in one buffer.

Both read the same tokens, or the same text in tokens of their own, of which those count that end
together; or both streams were stored, and lie on disk. Each token's stream is divided by its root
mean square, as every block does when it reads it. This commutes with the gauge, and keeps a few
massive tokens from drowning the others: SmolLM2-135M at weight noise 0.3 and 4,096 tokens, one of
them massive, recovers 99.3% of its coordinates without and all with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import torch

from bmatch.correlation.background import BATCHES_HELD
from bmatch.correlation.site_moments import SiteMoments, moments_bytes
from bmatch.correlation.statistics import statistics_bytes
from bmatch.models.activations import (
    Reader,
    SitePair,
    Sites,
    counted_tokens,
    pair_sites,
    require_same_width,
    run,
    split_batch,
)
from bmatch.models.stored_activations import StoredActivations, pair_stored
from bmatch.models.text import AlignedBatch
from bmatch.verdict.bootstrap import BLOCKS

OneBatch: TypeAlias = "torch.Tensor | Mapping[str, torch.Tensor]"
ModelBatch: TypeAlias = "OneBatch | AlignedBatch"
Batch: TypeAlias = "ModelBatch | range"
"""Token ids; or of activations that were stored, which rows."""


def ids_of(batch: Batch) -> int:
    """How many token ids a batch has, padding included."""
    if isinstance(batch, range):
        return len(batch)
    if isinstance(batch, AlignedBatch):
        return max(batch.target.numel(), batch.source.numel())
    return split_batch(batch)[0].numel()


class Read(NamedTuple):
    """Streams of a batch, float32 [S, N, D] each, and which tokens count, bool [N], [B, T]."""

    target: torch.Tensor
    source: torch.Tensor
    counted: torch.Tensor
    counted_on_host: torch.Tensor


@dataclass(eq=False)
class Both(ABC):
    """The streams of two models, wherever they come from.

    Attributes
    ----------
    pairs : tuple of SitePair
    width : int
        D.
    device : torch device
    skip_positions : int
        How many leading tokens of a sequence do not count.
    stretched : bool
        Whether there are several stretches of batches.
    """

    pairs: tuple[SitePair, ...]
    width: int
    device: torch.device
    skip_positions: int
    stretched: bool
    largest: int = -1
    taken: int = 0

    @abstractmethod
    def read(self, batch: Any) -> Read:
        """The streams of both in a batch."""

    @abstractmethod
    def read_source(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the source alone, float32 [S, N, D], and which tokens count."""

    @abstractmethod
    def called(self, pair: SitePair) -> int | str:
        """A pair of sites as messages call it."""

    def moments(self) -> SiteMoments:
        """Of their sites, without a token."""
        names = [self.called(pair) for pair in self.pairs]
        return SiteMoments(names, self.width, self.width, self.device)

    def make_room(self, tokens: int) -> None:
        """Ask for the memory that a batch of so many tokens needs beyond what is asked for."""
        if tokens <= self.largest:
            return
        needed = correlation_bytes(len(self.pairs), self.width, tokens, self.device, self.stretched)
        require_memory(needed - self.taken, self.device)
        self.largest, self.taken = tokens, needed

    def room_for(self, mask: torch.Tensor) -> torch.Tensor:
        """Where streams of tokens of a mask's shape go."""
        return torch.empty((len(self.pairs), *mask.shape, self.width), device=self.device)


@dataclass(eq=False)
class BothModels(Both):
    """Two models and where their streams are read."""

    target: Reader = field(kw_only=True)
    source: Reader = field(kw_only=True)

    @classmethod
    def of(
        cls, target: Any, source: Any, sites: Sites, skip_positions: int, stretched: bool
    ) -> BothModels:
        """Two models, or readers of them; refused where their widths differ."""
        one, other = Reader.of(target), Reader.of(source)
        require_same_width(one.axes, other.axes)
        pairs = pair_sites(one.axes.num_layers, other.axes.num_layers, sites)
        given = pairs, one.axes.dim, one.device, skip_positions, stretched
        return cls(*given, target=one, source=other)

    def called(self, pair: SitePair) -> int | str:
        """After how many blocks."""
        same = pair.target == pair.source
        return pair.target if same else f"{pair.target} of the target, {pair.source} of the source"

    def read(self, batch: ModelBatch) -> Read:
        """Run both models."""
        both = _for_both(batch, self.skip_positions)
        self.make_room(both.counted.numel())
        mask = both.counted.to(self.device, non_blocking=True)
        y, x = (self.room_for(mask) for _ in range(2))
        target_sites, source_sites = zip(*self.pairs, strict=True)
        _read_streams(self.source, both.source, both.source_at, source_sites, x)
        _read_streams(self.target, both.target, both.target_at, target_sites, y)
        return Read(y.flatten(1, -2), x.flatten(1, -2), mask.flatten(), both.counted)

    def read_source(self, batch: ModelBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the source."""
        both = _for_both(batch, self.skip_positions)
        mask = both.counted.to(self.device, non_blocking=True)
        x = self.room_for(mask)
        sites = [pair.source for pair in self.pairs]
        _read_streams(self.source, both.source, both.source_at, sites, x)
        return x.flatten(1, -2), mask.flatten()


@dataclass(eq=False)
class BothStored(Both):
    """Two streams on disk, of which a batch is a range of rows."""

    target: StoredActivations = field(kw_only=True)
    source: StoredActivations = field(kw_only=True)

    @classmethod
    def of(
        cls,
        target: StoredActivations,
        source: StoredActivations,
        sites: Sites,
        skip_positions: int,
        stretched: bool,
        device: torch.device,
    ) -> BothStored:
        """Refused where they do not fit together."""
        pairs = pair_stored(target, source, sites)
        given = pairs, target.dim, device, skip_positions, stretched
        return cls(*given, target=target, source=source)

    def called(self, pair: SitePair) -> int | str:
        """By the name of the stream."""
        return self.target.sites[pair.target] or "0"

    def read(self, batch: range) -> Read:
        """Read these rows of both."""
        self.make_room(len(batch))
        x, mask = self.read_source(batch)
        y = self._streams(self.target, [pair.target for pair in self.pairs], batch)
        return Read(y, x, mask, mask.cpu())

    def read_source(self, batch: range) -> tuple[torch.Tensor, torch.Tensor]:
        """Read these rows of the source."""
        counted = [held.counted(batch, self.skip_positions) for held in (self.target, self.source)]
        x = self._streams(self.source, [pair.source for pair in self.pairs], batch)
        return x, (counted[0] & counted[1]).to(self.device)

    def _streams(self, held: StoredActivations, sites: Sequence[int], rows: range) -> torch.Tensor:
        found = torch.empty((len(sites), len(rows), self.width), device=self.device)
        for place, site in enumerate(sites):
            found[place] = _normalized(held.read(site, rows).to(self.device))
        return found


def both_of(
    target: Any,
    source: Any,
    sites: Sites,
    skip_positions: int,
    stretched: bool,
    device: torch.device,
) -> Both:
    """Two models, or two `StoredActivations`, whose sums then are on this device."""
    given = target, source, sites, skip_positions, stretched
    stored = [isinstance(one, StoredActivations) for one in (target, source)]
    if any(stored) and not all(stored):
        raise ValueError("stored activations are matched with stored ones, and models with models")
    return BothStored.of(*given, device) if all(stored) else BothModels.of(*given)


class _ForBoth(NamedTuple):
    """A batch for each model, where in it the streams are taken, and which of them count."""

    target: OneBatch
    source: OneBatch
    target_at: torch.Tensor | None
    source_at: torch.Tensor | None
    counted: torch.Tensor  # bool [B, T]


def _for_both(batch: ModelBatch, skip_positions: int) -> _ForBoth:
    if isinstance(batch, AlignedBatch):
        counted = torch.ones((1, len(batch.target_at)), dtype=torch.bool)
        return _ForBoth(batch.target, batch.source, batch.target_at, batch.source_at, counted)
    return _ForBoth(batch, batch, None, None, counted_tokens(batch, skip_positions))


def _read_streams(
    reader: Reader,
    batch: OneBatch,
    at: torch.Tensor | None,
    sites: Sequence[int],
    streams: torch.Tensor,
) -> None:
    """Run a batch and fill ``streams [S, B, T, D]``, or ``[S, 1, K, D]`` with K places of it."""

    def keep(site: int, stream: torch.Tensor) -> None:
        picked = stream if at is None else stream.flatten(0, 1)[at.to(stream.device)][None]
        normalised = _normalized(picked)
        for place, wanted in enumerate(sites):
            if wanted == site:
                streams[place] = normalised

    run(reader, batch, sites, keep)


def correlation_bytes(
    sites: int, width: int, tokens: int, device: torch.device, stretched: bool = False
) -> int:
    """Bytes that `correlate_streams` takes beside the models and their forward passes.

    Parameters
    ----------
    sites, width : int
        How many sites are read, and D.
    tokens : int
        Token ids of the largest batch, padding included.
    device : torch device
        Where the models are.
    stretched : bool
        Whether there are several stretches of batches, with moments of their own.

    Returns
    -------
    int
        The statistics and what adding a batch needs, as `site_moments.moments_bytes` counts them;
        both models' streams of one batch in float32, on a CUDA device of two; six matrices
        ``[D, D]``, two of them in float64, and on the CPU one for each block of tokens.
    """
    held = BATCHES_HELD if device.type == "cuda" else 1
    streams = 2 * held * sites * tokens * width
    normalised = 2 * tokens * width  # one site's stream as float32, and over its root mean square
    matrices = 8 if device.type == "cuda" else 8 + 2 * BLOCKS
    apart = statistics_bytes(sites, width, width) + 8 * width**2 if stretched else 0
    return (
        4 * (streams + normalised + matrices * width**2)
        + moments_bytes(sites, width, width, tokens, device)
        + apart
    )  # fmt: skip


def require_memory(needed: int, device: torch.device) -> None:
    """Refuse a CUDA device that has less than `needed` bytes left, its cached memory included."""
    if device.type != "cuda":
        return
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if free < needed:
        raise ValueError(
            f"the correlation needs {needed / 1e9:.2f} GB on {device} and {free / 1e9:.2f} GB are "
            "free there: take fewer sites or smaller batches"
        )


def _normalized(stream: torch.Tensor) -> torch.Tensor:
    """Each token's stream at root mean square 1, float32 [B, T, D]."""
    return torch.nn.functional.rms_norm(stream.float(), stream.shape[-1:])
