"""Two models and some tokens in, the correlation of their residual streams out.

Both models read the same tokens, or the same text in tokens of their own, of which those count that
end together; at every site their streams are correlated; and the correlations of all sites are
averaged, since one gauge holds for the whole stream. Activations are dropped as soon as they are
counted: a batch's streams of all sites lie in one buffer, update the moments in one go, and on a
CUDA device do so while the models read the next.

Each token's stream is divided by its root mean square first, as every block does when it reads
it. This commutes with the gauge, and keeps a few massive tokens from drowning the others:
SmolLM2-135M at weight noise 0.3 and 4,096 tokens, one of them massive, recovers 99.3% of its
coordinates without and all with it. The sites' correlations are averaged, not their covariances,
in which late layers outweigh the rest: from 128 tokens that recovers 21%, the average all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch

from bmatch.correlation.background import BATCHES_HELD, BackgroundUpdates
from bmatch.correlation.site_moments import SiteMoments, moments_bytes
from bmatch.jobs.cores import shared_cores
from bmatch.models.activations import (
    Reader,
    SitePair,
    Sites,
    counted_tokens,
    pair_sites,
    require_same_width,
    run,
)
from bmatch.models.text import AlignedBatch
from bmatch.verdict.bootstrap import BLOCKS, TokenBlocks
from bmatch.verdict.decoys import RotatedSource

OneBatch: TypeAlias = "torch.Tensor | Mapping[str, torch.Tensor]"
Batch: TypeAlias = "OneBatch | AlignedBatch"


@dataclass(frozen=True, eq=False)
class StreamCorrelation:
    """Cross-checkpoint correlation of a residual stream.

    Attributes
    ----------
    correlation : float32 tensor [D, D]
        ``C[i, j] = corr(target_i, source_j)``, the mean over the sites.
    cross_covariance : float64 tensor [D, D]
        ``M[i, j]``, proportional to the mean over the sites of ``cov(target_i, source_j)``: in the
        unit in which the streams' coordinates have variance 1 on average.
    pairs : tuple of SitePair
        After how many blocks the streams were read, in target and source.
    tokens : int
        Tokens counted at each site.
    blocks : TokenBlocks
        What each block of tokens adds to the correlation.
    decoys : float32 tensor [D, D]
        Correlation of target coordinates with decoys (see `bmatch.verdict.decoys`).
    """

    correlation: torch.Tensor
    cross_covariance: torch.Tensor
    pairs: tuple[SitePair, ...]
    tokens: int
    blocks: TokenBlocks
    decoys: torch.Tensor

    @property
    def sites(self) -> tuple[int, ...]:
        """After how many blocks of the target the stream was read."""
        return tuple(pair.target for pair in self.pairs)


def correlate_streams(
    target_model: Any,
    source_model: Any,
    batches: Iterable[Batch],
    sites: Sites = "all",
    skip_positions: int = 1,
    *,
    largest_batch: int = 0,
) -> StreamCorrelation:
    """Correlate the residual streams of two models that read the same tokens.

    Parameters
    ----------
    target_model, source_model
        Transformers models whose streams have one width, on one device, in eval mode; compiled, in
        DataParallel or DistributedDataParallel, or with a PEFT adapter if need be. Or `Reader` of
        them.
    batches : iterable of int64 [B, T], of mappings with input_ids and attention_mask
        Token ids that mean the same to both. Where they do not, `text.AlignedBatch`.
    sites : "all" or sequence of int
        After how many blocks the stream is read: 0 is the embedding, -1 the end. Models of
        different depths are paired at equal fractions of their depths by ``"all"``, and number by
        number otherwise (see `activations.pair_sites`).
    skip_positions : int
        How many leading tokens of each sequence are not counted: the first one is an attention
        sink in most models.
    largest_batch : int
        For how many tokens memory is asked for at once, if it is known.

    Returns
    -------
    StreamCorrelation

    Raises
    ------
    ValueError
        If the models do not fit together, no token counts, activations are not finite, or a CUDA
        device has less memory left than `correlation_bytes` says.
    """
    if isinstance(batches, (torch.Tensor, Mapping)):
        raise TypeError("batches must be a list of batches: wrap a single one in brackets")
    target, source = Reader.of(target_model), Reader.of(source_model)
    require_same_width(target.axes, source.axes)
    pairs = pair_sites(target.axes.num_layers, source.axes.num_layers, sites)
    target_sites, source_sites = zip(*pairs, strict=True)
    width, device = target.axes.dim, target.model.device
    taken = correlation_bytes(len(pairs), width, largest_batch, device)
    require_memory(taken, device)
    moments = SiteMoments([_called(pair) for pair in pairs], width, width, device)
    blocks, rotated = TokenBlocks(), RotatedSource(width, device)
    with shared_cores(), BackgroundUpdates(moments) as updates:
        for batch in batches:
            both = _for_both(batch, skip_positions)
            if both.counted.numel() > largest_batch:
                largest_batch = both.counted.numel()
                needed = correlation_bytes(len(pairs), width, largest_batch, device)
                require_memory(needed - taken, device)
                taken = needed
            mask = both.counted.to(device, non_blocking=True)
            updates.wait_for_room()
            y, x = (torch.empty((len(pairs), *mask.shape, width), device=device) for _ in range(2))
            _read_streams(source, both.source, both.source_at, source_sites, x)
            _read_streams(target, both.target, both.target_at, target_sites, y)
            counted = mask.flatten()
            y, x = y.flatten(1, -2), x.flatten(1, -2)
            rotated.update(x, counted)
            for part in blocks.parts(both.counted):
                updates.add(y[:, part].contiguous(), x[:, part].contiguous(), counted[part])
                if blocks.full:
                    blocks.end(_mean_correlation(updates.settle()))
            del y, x  # the next batch needs the room
    tokens = moments.count
    if tokens < 2:
        raise ValueError(
            f"{tokens} tokens were counted, and a correlation needs at least 2: give more batches "
            f"(the first {skip_positions} of each sequence do not count)"
        )
    correlation = _mean_correlation(moments)
    blocks.end(correlation)
    decoys = rotated.correlation(moments)
    return StreamCorrelation(correlation, _mean_covariance(moments), pairs, tokens, blocks, decoys)


def _mean_correlation(moments: SiteMoments) -> torch.Tensor:
    """Over the sites, float32 [D, D]."""
    total = torch.zeros(moments.target_dim, moments.source_dim, device=moments.device)
    for s in range(len(moments.sites)):
        total += moments.correlation(s)
    return total / len(moments.sites)


def _mean_covariance(moments: SiteMoments) -> torch.Tensor:
    """Over the sites, in the unit of the streams' own spread, float64 [D, D]."""
    shape = moments.target_dim, moments.source_dim
    total = torch.zeros(shape, device=moments.device, dtype=torch.float64)
    for s in range(len(moments.sites)):
        total += moments.cross_covariance(s)
    found = moments.statistics
    spread = (found.target_square.sum() * found.source_square.sum()).sqrt()
    unit = spread / (moments.count * moments.target_dim)
    return total / unit.clamp_min(torch.finfo(torch.float64).tiny)


class _ForBoth(NamedTuple):
    """A batch for each model, where in it the streams are taken, and which of them count."""

    target: OneBatch
    source: OneBatch
    target_at: torch.Tensor | None
    source_at: torch.Tensor | None
    counted: torch.Tensor  # bool [B, T]


def _for_both(batch: Batch, skip_positions: int) -> _ForBoth:
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


def _called(pair: SitePair) -> int | str:
    """A pair of sites as messages call it."""
    same = pair.target == pair.source
    return pair.target if same else f"{pair.target} of the target, {pair.source} of the source"


def correlation_bytes(sites: int, width: int, tokens: int, device: torch.device) -> int:
    """Bytes that `correlate_streams` takes beside the models and their forward passes.

    Parameters
    ----------
    sites, width : int
        How many sites are read, and D.
    tokens : int
        Token ids of the largest batch, padding included.
    device : torch device
        Where the models are.

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
    return (
        4 * (streams + normalised + matrices * width**2)
        + moments_bytes(sites, width, width, tokens, device)
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
