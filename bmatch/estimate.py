"""Two models and some tokens in, the gauge between their residual streams out; or no tokens.

The evidence is in activations (`bmatch.streams`), in the weights (`models.weight_evidence`), or in
both: one correlation, which is matched, and the match is judged. Where rotations are gauges, the
covariance of activations is matched in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias, get_args, overload

import torch

from bmatch._version import __version__
from bmatch.architecture.axes import ResidualAxes
from bmatch.architecture.premise import Premise, premise
from bmatch.architecture.rotating import require_rotations
from bmatch.groups import AnyGroup, Group, require_group, smaller
from bmatch.matching import GaugeMatch, match
from bmatch.models.activations import Reader, Sites, require_same_width
from bmatch.models.placed import PlacedWeights
from bmatch.models.weight_evidence import (
    WeightCorrelation,
    correlate_weights,
    weights_if_comparable,
)
from bmatch.procrustes import OrthogonalMatch, match_orthogonal
from bmatch.stream_reading import Batch
from bmatch.streams import StreamCorrelation, correlate_streams
from bmatch.verdict.evidence import gather
from bmatch.verdict.verdict import judged

Evidence: TypeAlias = Literal["activations", "weights", "both"]
"""What a gauge is estimated from."""


@overload
def estimate_gauge(
    target_model: Any,
    source_model: Any,
    batches: Iterable[Batch] = (),
    sites: Sites = "all",
    group: Group | Literal["auto"] = "auto",
    skip_positions: int = 1,
    *,
    evidence: Evidence = "activations",
    witness: bool = True,
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
    evidence: Literal["activations"] = "activations",
    witness: bool = True,
) -> OrthogonalMatch: ...
def estimate_gauge(
    target_model: Any,
    source_model: Any,
    batches: Iterable[Batch] = (),
    sites: Sites = "all",
    group: AnyGroup | Literal["auto"] = "auto",
    skip_positions: int = 1,
    *,
    evidence: Evidence = "activations",
    witness: bool = True,
) -> GaugeMatch | OrthogonalMatch:
    """Estimate the gauge from the residual stream of one model to that of another.

    Parameters
    ----------
    target_model, source_model, batches, sites, skip_positions
        As for `correlate_streams`. For ``evidence="weights"`` batches, sites and positions are not
        looked at.
    group : {"auto", "signed_permutation", "permutation", "permutation_global_sign", "orthogonal"}
        ``"auto"`` takes the gauge group of the architectures: signed permutations for RMSNorm,
        permutations and one sign for all for LayerNorm. ``"orthogonal"`` is the whole gauge where
        gains are flat, under LayerNorm those of its maps that fix the ones vector.
    evidence : {"activations", "weights", "both"}
        ``"weights"`` reads no token and runs no model: see
        `bmatch.models.weight_evidence.correlate_weights`. ``"both"`` matches a mean of the two
        correlations, in which the one with less chance in it counts for more.
    witness : bool
        Whether weights that are no evidence are asked what they say of the match, which makes the
        verdict sharper and takes a pass over them.

    Returns
    -------
    GaugeMatch, or OrthogonalMatch for the orthogonal group
        Its gauge maps source to target coordinates, and its metadata tell the evidence: sites and
        tokens, rows of weights; and the verdict on it, which the orthogonal group has not.

    Raises
    ------
    ValueError
        As `correlate_streams` and `correlate_weights`, and if the group or the evidence is unknown,
        or the group larger than the architectures'. For the orthogonal group if gains are not
        flat, a rotation changes what the model computes, or the evidence is not activations.
    TypeError
        If `batches` is a single batch.

    Examples
    --------
    With ``batch = tokenizer(texts, return_tensors="pt", padding=True)`` of the models' tokenizer:
    ``estimate_gauge(target_model, source_model, [batch]).gauge``. Without a token:
    ``estimate_gauge(target_model, source_model, evidence="weights").gauge``.
    """
    require_evidence(evidence, group)
    target, source = Reader.of(target_model), Reader.of(source_model)
    require_same_width(target.axes, source.axes)
    chosen_group = resolve_group(
        target.axes, source.axes, group, lambda: [_tested(target), _tested(source)]
    )
    streams = weights = None
    if chosen_group == "orthogonal":
        streams = correlate_streams(target, source, batches, sites, skip_positions)
        return match_rotation(streams, fix_ones=fixes_ones(target.axes, source.axes))
    if evidence != "weights":
        streams = correlate_streams(target, source, batches, sites, skip_positions)
    if evidence != "activations":
        weights = correlate_weights(target, source)
    ask = partial(weights_if_comparable, target, source) if witness else None
    return match_evidence(chosen_group, streams, weights, ask, target.device).match


def require_evidence(evidence: str, group: str) -> None:
    """Refuse what is not the name of a kind of evidence, or tells nothing of this group."""
    if evidence not in get_args(Evidence):
        raise ValueError(
            f"evidence must be one of {', '.join(get_args(Evidence))}; got {evidence!r}"
        )
    if group == "orthogonal" and evidence != "activations":
        raise ValueError(
            f"the orthogonal group is estimated from activations, and not from {evidence}"
        )


def combined(streams: StreamCorrelation | None, weights: WeightCorrelation | None) -> torch.Tensor:
    """The correlation to match, float32 [D, D]: that of streams, of weights, or a mean of both.

    Each counts by the inverse square of its mean magnitude, which is that of chance: all entries of
    a row but one are.
    """
    found = [evidence.correlation for evidence in (streams, weights) if evidence is not None]
    found = [correlation.to(found[0].device) for correlation in found]
    chance = [float(correlation.abs().mean()) for correlation in found]
    shares = [level**-2 if level else 0.0 for level in chance]
    if not any(shares):
        return found[0]
    total = torch.zeros_like(found[0])
    for share, correlation in zip(shares, found, strict=True):
        total += share / sum(shares) * correlation
    return total


class Matched(NamedTuple):
    """A match that was judged, and what it was judged by.

    Attributes
    ----------
    match : GaugeMatch
    correlation : float32 tensor [D, D]
        What was matched.
    witness : WeightCorrelation or None
        What weights say, as evidence or as a witness; None where they were not asked, or no rows of
        the two models are the same.
    """

    match: GaugeMatch
    correlation: torch.Tensor
    witness: WeightCorrelation | None


def match_evidence(
    group: Group,
    streams: StreamCorrelation | None,
    weights: WeightCorrelation | None,
    ask: Callable[[], WeightCorrelation | None] | None = None,
    device: torch.device | None = None,
) -> Matched:
    """Match what `combined` makes of the evidence, and judge it; the gauge notes all of it.

    Parameters
    ----------
    group : str
    streams, weights
        One of them at least.
    ask : callable, optional
        Gives what weights say where they are no evidence. Default: they are not asked.
    device : torch device, optional
        Where it is matched. Default: where the evidence is.
    """
    correlation = combined(streams, weights)
    correlation = correlation if device is None else correlation.to(device)
    result = match(correlation, group)
    note = result.gauge.metadata
    note.update(_noted(result))
    if streams is not None:
        note.update(_read(streams))
    if weights is not None:
        note.update(weight_rows=str(weights.rows), weight_tensors=str(len(weights.tensors)))
    note["evidence"] = "activations" if weights is None else "both" if streams else "weights"
    said = ask() if weights is None and ask is not None else weights
    result = judged(result, gather(result, streams, said, ask is not None))
    return Matched(result, correlation, said)


def match_rotation(streams: StreamCorrelation, *, fix_ones: bool) -> OrthogonalMatch:
    """Match in the orthogonal group; the gauge notes where it comes from."""
    result = match_orthogonal(streams.cross_covariance, fix_ones=fix_ones)
    result.gauge.metadata.update(_noted(result), **_read(streams), evidence="activations")
    return result


def _noted(result: GaugeMatch | OrthogonalMatch) -> dict[str, str]:
    return {
        "matched_group": result.group,
        "score": f"{result.score:.6f}",
        "bmatch_version": __version__,
    }


def _read(streams: StreamCorrelation) -> dict[str, str]:
    read = {"tokens": str(streams.tokens), "sites": ",".join(map(str, streams.sites))}
    source_sites = tuple(pair.source for pair in streams.pairs)
    if source_sites != streams.sites:
        read["source_sites"] = ",".join(map(str, source_sites))
    return read


def _tested(reader: Reader) -> Premise:
    """What the gains of a loaded model say, of a structure that is proved to rotate."""
    require_rotations(reader.model)
    return premise(reader.axes, PlacedWeights(reader.model).items())


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
