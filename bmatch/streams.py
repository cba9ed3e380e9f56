"""Two models and some tokens in, the correlation of their residual streams out.

Both models read the same tokens, or the same text in tokens of their own, of which those count that
end together; at every site their streams are correlated; and the correlations of all sites are
averaged, since one gauge holds for the whole stream. Activations are dropped as soon as they are
counted: a batch's streams of all sites lie in one buffer, update the moments in one go, and on a
CUDA device do so while the models read the next.

The sites' correlations are averaged, not their covariances, in which late layers outweigh the rest:
from 128 tokens that recovers 21%, the average all. Streams of many batches are summed in stretches,
which several processes can share (`correlation.stretches`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import torch

from bmatch.correlation.background import BackgroundUpdates
from bmatch.correlation.site_moments import SiteMoments
from bmatch.correlation.stretches import stretches
from bmatch.jobs.cores import shared_cores
from bmatch.jobs.progress import Progress, silent
from bmatch.jobs.ranks import ALONE, Ranks
from bmatch.jobs.resume import KeptState
from bmatch.models.activations import (
    SitePair,
    Sites,
)
from bmatch.stream_reading import Batch, Both, both_of, ids_of
from bmatch.stream_sums import StreamSums, mean_correlation, mean_covariance, send
from bmatch.verdict.bootstrap import TokenBlocks
from bmatch.verdict.decoys import RotatedSource


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


@dataclass(frozen=True)
class Job:
    """How a long stream is shared out, kept and shown.

    Attributes
    ----------
    ranks : Ranks
        The others are in `serve_streams`. From `correlation.stretches.LEAST` batches on they have
        something to read.
    kept : KeptState, optional
        Where its sums are kept now and then, and gone on from; as many batches are needed.
    passed : callable
        Is told how many tokens have been counted.
    progress : callable
        Shows which batches this rank reads (see `bmatch.jobs.progress`).
    device : str
        Where stored activations are summed; models are where they are.
    together : bool
        Whether all ranks read all batches, since they hold shards of the models.
    """

    ranks: Ranks = ALONE
    kept: KeptState | None = None
    passed: Callable[[int], object] = bool
    progress: Progress = silent
    device: str = "cpu"
    together: bool = False


_SHORT = Job()


def correlate_streams(
    target_model: Any,
    source_model: Any,
    batches: Iterable[Batch],
    sites: Sites = "all",
    skip_positions: int = 1,
    *,
    largest_batch: int = 0,
    job: Job = _SHORT,
) -> StreamCorrelation:
    """Correlate the residual streams of two models that read the same tokens.

    Parameters
    ----------
    target_model, source_model
        Transformers models whose streams have one width, on one device, in eval mode; compiled, in
        DataParallel or DistributedDataParallel, or with a PEFT adapter if need be. Or `Reader` of
        them; or two `StoredActivations`.
    batches : iterable of int64 [B, T], of mappings with input_ids and attention_mask
        Token ids that mean the same to both. Where they do not, `text.AlignedBatch`; of stored
        activations ranges of rows.
    sites : "all" or sequence of int
        After how many blocks the stream is read: 0 is the embedding, -1 the end. Models of
        different depths are paired at equal fractions of their depths by ``"all"``, and number by
        number otherwise (see `activations.pair_sites`).
    skip_positions : int
        How many leading tokens of each sequence are not counted: the first one is an attention
        sink in most models.
    largest_batch : int
        For how many tokens memory is asked for at once, if it is known.
    job : Job, optional
        How it is shared out, kept and shown. Answers do not depend on it, to the bit.

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
    cuts = _cuts(batches)
    models = target_model, source_model
    both = both_of(*models, sites, skip_positions, len(cuts) > 1, torch.device(job.device))
    both.make_room(largest_batch)
    with shared_cores(), _running(job.ranks, job.together):
        if isinstance(batches, Sequence) and len(cuts) > 1:
            sums = _in_stretches(both, batches, cuts, job)
        else:
            sums = _in_one(both, batches, job)
    moments = sums.moments
    if moments.count < 2:
        raise ValueError(
            f"{moments.count} tokens were counted, and a correlation needs at least 2: give more "
            f"batches (the first {skip_positions} of each sequence do not count)"
        )
    correlation = mean_correlation(moments)
    sums.blocks.end(correlation)
    decoys = sums.rotated.correlation(moments)
    covariance = mean_covariance(moments)
    return StreamCorrelation(
        correlation, covariance, both.pairs, moments.count, sums.blocks, decoys
    )


def serve_streams(
    target_model: Any,
    source_model: Any,
    batches: Sequence[Batch],
    sites: Sites = "all",
    skip_positions: int = 1,
    *,
    ranks: Ranks,
    together: bool = False,
    device: str = "cpu",
) -> None:
    """What ranks but the first do while that one is in `correlate_streams` with the same input."""
    cuts = _cuts(batches)
    if len(cuts) == 1 and not together:
        return
    both = both_of(target_model, source_model, sites, skip_positions, True, torch.device(device))
    start = ranks.told() if len(cuts) > 1 else 0
    with shared_cores(), _running(ranks, together):
        if together:
            for place in chain.from_iterable(cuts[start:]):
                both.read(batches[place])
            return
        for cut in cuts[start + ranks.rank :: ranks.world]:
            send(_moments_of(both, batches, cut, cut.start), ranks)


def _running(ranks: Ranks, together: bool) -> AbstractContextManager[None]:
    return ranks.running_together() if together else nullcontext()


def _cuts(batches: Iterable[Batch]) -> list[range]:
    """Stretches of batches; one, where it is not known beforehand how many there are."""
    if not isinstance(batches, Sequence):
        return [range(0)]
    return stretches([ids_of(batch) for batch in batches])


def _in_one(both: Both, batches: Iterable[Batch], job: Job) -> StreamSums:
    """All batches after each other, with blocks of tokens that end within them."""
    sums = StreamSums(both.moments(), 1)
    shown = job.progress(batches, "Correlating") if isinstance(batches, Sequence) else batches
    with BackgroundUpdates(sums.moments) as updates:
        for batch in shown:
            updates.wait_for_room()
            read = both.read(batch)
            sums.rotated.update(read.source, read.counted)
            for part in sums.blocks.parts(read.counted_on_host):
                y, x = (streams[:, part].contiguous() for streams in (read.target, read.source))
                updates.add(y, x, read.counted[part])
                if sums.blocks.full:
                    sums.blocks.end(mean_correlation(updates.settle()))
            del read, y, x  # the next batch needs the room
            job.passed(sums.moments.count)
    return sums


def _in_stretches(
    both: Both, batches: Sequence[Batch], cuts: Sequence[range], job: Job
) -> StreamSums:
    """A round of stretches after the other, one stretch a rank, added in their order."""
    sums, ranks, kept = StreamSums(both.moments(), len(cuts)), job.ranks, job.kept
    if kept is not None and (state := kept.load()) is not None:
        sums.restore(state)
    start: int = ranks.told(sums.stretches)
    at_once = 1 if job.together else ranks.world
    own = cuts[start::at_once]
    shown = iter(job.progress([place for cut in own for place in cut], "Correlating"))
    job.passed(sums.moments.count)
    for number, cut in zip(range(start, len(cuts), at_once), own, strict=True):
        sums.add(_moments_of(both, batches, islice(shown, len(cut)), cut.start, sums.rotated))
        for rank, theirs in enumerate(cuts[number + 1 : number + at_once], 1):
            sums.receive(ranks, rank)
            for place in theirs:
                if not sums.rotated.full:
                    sums.rotated.update(*both.read_source(batches[place]))
        job.passed(sums.moments.count)
        if kept is not None and kept.due:
            kept.save(*sums.state())
    next(shown, None)  # to its end, where what shows it is put away
    return sums


def _moments_of(
    both: Both,
    batches: Sequence[Batch],
    places: Iterable[int],
    first: int,
    rotated: RotatedSource | None = None,
) -> SiteMoments:
    """Of one stretch alone; its batches' places begin at `first`."""
    moments = both.moments()
    moments.batches = first
    with BackgroundUpdates(moments) as updates:
        for place in places:
            updates.wait_for_room()
            read = both.read(batches[place])
            if rotated is not None:
                rotated.update(read.source, read.counted)
            updates.add(read.target, read.source, read.counted)
            del read  # the next batch needs the room
    return moments
