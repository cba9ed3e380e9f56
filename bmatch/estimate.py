"""Two models and some tokens in, the gauge between their residual streams out.

Both models read the same tokens, or the same text in tokens of their own, of which those count that
end together; at every site their streams are correlated; the correlations of all sites are
averaged, since one gauge holds for the whole stream; and the average is matched. Activations are
dropped as soon as they are counted: a batch's streams of all sites lie in one buffer, update the
moments in one go, and on a CUDA device do so while the models read the next.

Each token's stream is divided by its root mean square first, as every block does when it reads
it. This commutes with the gauge, and keeps a few massive tokens from drowning the others:
SmolLM2-135M at weight noise 0.3 and 4,096 tokens, one of them massive, recovers 99.3% of its
coordinates without and all with it. The sites' correlations are averaged, not their covariances,
in which late layers outweigh the rest: from 128 tokens that recovers 21%, the average all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, overload

import torch

from bmatch._version import __version__
from bmatch.architecture.axes import ResidualAxes
from bmatch.architecture.premise import Premise, premise
from bmatch.architecture.rotating import require_rotations
from bmatch.correlation.background import BATCHES_HELD, BackgroundUpdates
from bmatch.correlation.site_moments import SiteMoments, moments_bytes
from bmatch.groups import AnyGroup, Group, require_group, smaller
from bmatch.jobs.cores import shared_cores
from bmatch.matching import GaugeMatch, match
from bmatch.models.activations import Reader, SitePair, Sites, counted_tokens, pair_sites, run
from bmatch.models.text import AlignedBatch
from bmatch.procrustes import OrthogonalMatch, match_orthogonal

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
    """

    correlation: torch.Tensor
    cross_covariance: torch.Tensor
    pairs: tuple[SitePair, ...]
    tokens: int

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
            updates.add(y, x, mask)
            del y, x  # the next batch needs the room
    tokens = moments.count
    if tokens < 2:
        raise ValueError(
            f"{tokens} tokens were counted, and a correlation needs at least 2: give more batches "
            f"(the first {skip_positions} of each sequence do not count)"
        )
    total = torch.zeros(width, width, device=device)
    products = torch.zeros(width, width, device=device, dtype=torch.float64)
    for s in range(len(pairs)):
        total += moments.correlation(s)
        products += moments.cross_covariance(s)
    found = moments.statistics
    unit = (found.target_square.sum() * found.source_square.sum()).sqrt() / (tokens * width)
    products /= unit.clamp_min(torch.finfo(torch.float64).tiny)
    return StreamCorrelation(total / len(pairs), products, pairs, tokens)


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
        both models' streams of one batch in float32, on a CUDA device of two; and matrices
        ``[D, D]``, two of float32 and two of float64.
    """
    held = BATCHES_HELD if device.type == "cuda" else 1
    streams = 2 * held * sites * tokens * width
    normalised = 2 * tokens * width  # one site's stream as float32, and over its root mean square
    return (
        4 * (streams + normalised + 6 * width**2)
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


@overload
def estimate_gauge(
    target_model: Any,
    source_model: Any,
    batches: Iterable[Batch],
    sites: Sites = "all",
    group: Group | Literal["auto"] = "auto",
    skip_positions: int = 1,
) -> GaugeMatch: ...
@overload
def estimate_gauge(
    target_model: Any,
    source_model: Any,
    batches: Iterable[Batch],
    sites: Sites = "all",
    *,
    group: Literal["orthogonal"],
    skip_positions: int = 1,
) -> OrthogonalMatch: ...
def estimate_gauge(
    target_model: Any,
    source_model: Any,
    batches: Iterable[Batch],
    sites: Sites = "all",
    group: AnyGroup | Literal["auto"] = "auto",
    skip_positions: int = 1,
) -> GaugeMatch | OrthogonalMatch:
    """Estimate the gauge from the residual stream of one model to that of another.

    Parameters
    ----------
    target_model, source_model, batches, sites, skip_positions
        As for `correlate_streams`.
    group : {"auto", "signed_permutation", "permutation", "permutation_global_sign", "orthogonal"}
        ``"auto"`` takes the gauge group of the architectures: signed permutations for RMSNorm,
        permutations and one sign for all for LayerNorm. ``"orthogonal"`` is the whole gauge where
        gains are flat, under LayerNorm those of its maps that fix the ones vector.

    Returns
    -------
    GaugeMatch, or OrthogonalMatch for the orthogonal group
        Its gauge maps source to target coordinates, and its metadata tell sites and tokens.

    Raises
    ------
    ValueError
        As `correlate_streams`, and if the group is unknown or larger than the architectures'.
    TypeError
        If `batches` is a single batch.

    Examples
    --------
    With ``batch = tokenizer(texts, return_tensors="pt", padding=True)`` of the models' tokenizer:
    ``estimate_gauge(target_model, source_model, [batch]).gauge``.
    """
    target, source = Reader.of(target_model), Reader.of(source_model)
    chosen_group = resolve_group(
        target.axes, source.axes, group, lambda: [_tested(target), _tested(source)]
    )
    streams = correlate_streams(target, source, batches, sites, skip_positions)
    return match_streams(streams, chosen_group, fix_ones=fixes_ones(target.axes, source.axes))


def match_streams(
    streams: StreamCorrelation, group: AnyGroup, *, fix_ones: bool = False
) -> GaugeMatch | OrthogonalMatch:
    """Match two streams in a group; the gauge notes where it comes from.

    By their correlation, or in the orthogonal group by their cross-covariance, there under
    LayerNorm with the ones vector fixed.
    """
    result: GaugeMatch | OrthogonalMatch
    if group == "orthogonal":
        result = match_orthogonal(streams.cross_covariance, fix_ones=fix_ones)
    else:
        result = match(streams.correlation, group)
    result.gauge.metadata.update(
        matched_group=group,
        tokens=str(streams.tokens),
        sites=",".join(map(str, streams.sites)),
        score=f"{result.score:.6f}",
        bmatch_version=__version__,
    )
    source_sites = tuple(pair.source for pair in streams.pairs)
    if source_sites != streams.sites:
        result.gauge.metadata["source_sites"] = ",".join(map(str, source_sites))
    return result


def _tested(reader: Reader) -> Premise:
    """What the gains of a loaded model say, of a structure that is proved to rotate."""
    require_rotations(reader.model)
    return premise(reader.axes, reader.model.state_dict().items())


def fixes_ones(target: ResidualAxes, source: ResidualAxes) -> bool:
    """Whether an orthogonal gauge between the two has to fix the ones vector."""
    return smaller(target.group, source.group) != "signed_permutation"


def resolve_group(
    target: ResidualAxes,
    source: ResidualAxes,
    group: AnyGroup | Literal["auto"],
    premises: Callable[[], Iterable[Premise]] | None = None,
) -> AnyGroup:
    """The group to match in: ``"auto"`` is the architectures' own, the smaller of two.

    `premises` tells of the models' gains, and is asked for the orthogonal group alone, which is
    refused without it.

    Raises
    ------
    ValueError
        If the group is unknown, or larger than that; or is orthogonal and gains are not flat.
    """
    own = smaller(target.group, source.group)
    if group == "auto":
        return own
    if group == "orthogonal":
        if premises is None:
            raise ValueError("the orthogonal group needs gains that were tested, and none were")
        for found in premises():
            found.require_flat()
        return group
    require_group(group)
    if smaller(group, own) != group:
        model_type = next(a.model_type for a in (target, source) if a.group == own)
        raise ValueError(
            f"the gauge group of {model_type}'s residual stream is {own}, which {group} exceeds: "
            "signs of single coordinates change its function"
        )
    return group


def require_same_width(target: ResidualAxes, source: ResidualAxes) -> None:
    """Refuse two models whose residual streams cannot be coordinates of one another.

    Depth, vocabulary and type may differ: a gauge needs the same width and nothing else.

    Raises
    ------
    ValueError
        If the widths differ.
    """
    if target.dim != source.dim:
        raise ValueError(
            "the two models have different widths of the residual stream: "
            f"{source.dim} in the source and {target.dim} in the target, so no gauge relates them"
        )
