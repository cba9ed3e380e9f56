"""Which feature of one dictionary is which of another, and which has no partner there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bmatch.assignment.answer import Assignment
from bmatch.features import strangers
from bmatch.features.optimum import optimum
from bmatch.features.pairs import Pairs, as_directions, close_pairs
from bmatch.features.relatives import bereaved, false_by_kinship
from bmatch.features.table import write_table
from bmatch.jobs.progress import Progress, silent
from bmatch.jobs.ranks import ALONE, Ranks
from bmatch.jobs.resume import KeptState

_NEIGHBOURS = 64  # of a feature, on average: closer ones alone are candidates


@dataclass(frozen=True, eq=False)
class FeatureMatch:
    """Pairs of features, and how sure each of them is.

    Attributes
    ----------
    target_ind, source_ind : int64 [k]
        Pairs, the target's features ascending.
    sign : int8 [k]
        -1 where a feature was matched with the negative of another; else 1.
    cosine : float64 [k]
        Of the two directions, signs applied.
    lead : float64 [k]
        What the cosine is more than that of the next closest of either feature, or than `limit`
        where that is more. Negative where another is closer, and has a partner that is closer yet.
    margin : float64 [k]
        What the sum of cosines beyond `limit` loses at least if the pair is not allowed, all others
        re-arranging themselves as well as they can. 0 may be a tie.
    probability : float64 [k]
        That the two are partners, and no strangers that lie as close by chance or by kinship.
    shape : (n, m)
        Features of the target and of the source.
    limit : float
        Pairs of a smaller cosine were not looked at.
    false_share : float
        The share of pairs expected to be no partners.
    all_cosine : float64 [l]
        Of all pairs of the optimum, those included that were not kept.
    stranger_cosine : float64 [s]
        The best of strangers.
    relative_cosine : float64 [t]
        What matched features got instead whose partner was taken away. By both, probabilities were
        told.
    bereaved : int
        From how many it was taken; others than these `t` got none.
    assignment : Assignment or None
        The solver's answer for the pairs above the limit, with duals and gap; None if there was
        none.
    """

    target_ind: npt.NDArray[np.int64]
    source_ind: npt.NDArray[np.int64]
    sign: npt.NDArray[np.int8]
    cosine: npt.NDArray[np.float64]
    lead: npt.NDArray[np.float64]
    margin: npt.NDArray[np.float64]
    probability: npt.NDArray[np.float64]
    shape: tuple[int, int]
    limit: float
    false_share: float
    all_cosine: npt.NDArray[np.float64] = field(repr=False)
    stranger_cosine: npt.NDArray[np.float64] = field(repr=False)
    relative_cosine: npt.NDArray[np.float64] = field(repr=False)
    bereaved: int
    assignment: Assignment | None = field(default=None, repr=False)

    @property
    def source_of_target(self) -> npt.NDArray[np.int64]:
        """The source feature of each target feature, int64 [n]; -1 for one without."""
        found = np.full(self.shape[0], -1, np.int64)
        found[self.target_ind] = self.source_ind
        return found

    @property
    def target_of_source(self) -> npt.NDArray[np.int64]:
        """The target feature of each source feature, int64 [m]; -1 for one without."""
        found = np.full(self.shape[1], -1, np.int64)
        found[self.source_ind] = self.target_ind
        return found

    def carried(self, labels: Mapping[int, Any] | Sequence[Any]) -> dict[int, Any]:
        """What is known of source features, by the number of the target feature each became.

        Parameters
        ----------
        labels : mapping of int to object, or sequence
            By source feature.

        Returns
        -------
        dict
            In the order of target features; without those that have no partner or no label.

        Raises
        ------
        IndexError
            If a number is none of the source's features.
        """
        known = labels if isinstance(labels, Mapping) else dict(enumerate(labels))
        beyond = [number for number in known if not 0 <= number < self.shape[1]]
        if beyond:
            raise IndexError(
                f"feature {beyond[0]} has a label, and the source has {self.shape[1]} features"
            )
        pairs = zip(self.target_ind.tolist(), self.source_ind.tolist(), strict=True)
        return {target: known[source] for target, source in pairs if source in known}

    def table(self) -> dict[str, npt.NDArray[Any]]:
        """Columns of [k]: target, source, sign, cosine, lead, margin, probability."""
        return {
            "target": self.target_ind,
            "source": self.source_ind,
            "sign": self.sign,
            "cosine": self.cosine,
            "lead": self.lead,
            "margin": self.margin,
            "probability": self.probability,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `table` as ``.csv``, or as ``.parquet`` where pyarrow is installed.

        Raises
        ------
        ValueError
            If the name ends otherwise.
        OSError
            If it cannot be written; nothing is left behind.
        """
        write_table(Path(path), self.table())


def match_features(
    target: npt.ArrayLike,
    source: npt.ArrayLike,
    *,
    sign_marginalized: bool = False,
    least: float | None = None,
    false_share: float = 0.01,
    seed: int = 0,
    progress: Progress = silent,
    ranks: Ranks = ALONE,
    kept: KeptState | None = None,
) -> FeatureMatch:
    """Match the features of two dictionaries by their directions; those without partner stay out.

    Parameters
    ----------
    target, source : array_like or torch.Tensor [n, k], [m, k]
        A row a feature: decoder or encoder directions in the same coordinates (carry the source's
        first where models differ), or `ActivationSketch.directions`. On a CUDA device they are
        compared there.
    sign_marginalized : bool
        Whether a feature may be matched with the negative of another: ``|cosine|`` counts.
    least : float, optional
        Keep all pairs of the optimum whose cosine is larger. By default it is told from strangers
        and relatives what says something.
    false_share : float
        Without `least`: keep the likeliest pairs, as many as leave this share of others among
        them, if they are partners rather than not.
    seed : int
        Of the decoys (see `bmatch.features.strangers`), and of which partners are taken away (see
        `bmatch.features.relatives`).
    progress : callable, optional
        How to show how far it has come (see `bmatch.jobs.progress`).
    ranks : Ranks, optional
        Processes that share the comparison, each with the same arguments, and get the same match
        (see `bmatch.jobs.ranks`).
    kept : KeptState, optional
        Where the first of them keeps the pairs that were found now and then (see
        `bmatch.jobs.resume`), under a key of all other arguments, and goes on from. To be forgotten
        by the caller.

    Returns
    -------
    FeatureMatch

    Raises
    ------
    ValueError
        If these are no finite matrices of as many columns, on one device.
    TypeError
        If they are no real numbers.

    Notes
    -----
    What is made greatest is the sum of ``cosine - limit`` over pairs, over all ways to pair
    features or leave them out, exactly: cosines are float64, of all pairs above the limit (see
    `bmatch.solve`, `cost_limit`). The limit is `least`, or what the best of strangers exceeds half
    of the time, but high enough for 64 candidates a feature on average. Time is that of one matrix
    product ``[n, k] @ [k, m]`` in float32; memory goes by candidates, not by pairs.

    Pairs are told from strangers by their cosine, and from relatives by cosine, leads and margin
    together. Where of each family either dictionary has one member, and not the same, the two are
    taken for partners: their directions say nothing else.

    Examples
    --------
    >>> import bmatch, numpy as np
    >>> directions = np.random.default_rng(0).normal(size=(300, 64))
    >>> bmatch.match_features(directions, directions[::-1]).source_of_target[:3]
    array([299, 298, 297])
    """
    one, other = as_directions(target, "target"), as_directions(source, "source")
    if one.shape[1] != other.shape[1]:
        raise ValueError(
            "target and source must have as many columns, the terms of a direction, got shapes "
            f"{tuple(one.shape)} and {tuple(other.shape)}"
        )
    if one.device != other.device:
        raise ValueError(
            f"target and source must lie on one device, got {one.device} and {other.device}"
        )
    for value, name in ((least, "least"), (false_share, "false_share")):
        if value is not None and not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} must be from 0 to 1, got {value}")
    shape = (len(one), len(other))
    if not all(shape) or not one.shape[1]:
        return _nothing(shape, least or 0.0)
    seen = strangers.sample(one, other, sign_marginalized, seed) if ranks.first else None
    limit = ranks.told(None if seen is None else _limit(seen, least))
    near = close_pairs(one, other, limit, sign_marginalized, progress, ranks, kept)
    found: FeatureMatch | None = None
    if near is not None and seen is not None:
        found = _kept(near, seen, shape, limit, false_share if least is None else None, seed)
    told: FeatureMatch = ranks.told(found)
    return told


def _limit(seen: strangers.Sample, least: float | None) -> float:
    if least is not None:
        return float(least)
    return max(0.0, float(np.median(seen.decoys)), seen.level(_NEIGHBOURS))


def _nothing(
    shape: tuple[int, int], limit: float, decoys: npt.NDArray[np.float64] | None = None
) -> FeatureMatch:
    index, real = np.empty(0, np.int64), np.empty(0)
    sign = np.empty(0, np.int8)
    strange = real if decoys is None else decoys
    return FeatureMatch(
        index, index, sign, real, real, real, real, shape, limit, 0.0, real, strange, real, 0
    )


def _kept(
    near: Pairs,
    seen: strangers.Sample,
    shape: tuple[int, int],
    limit: float,
    false_share: float | None,
    seed: int,
) -> FeatureMatch:
    """The optimum among candidates, and of it what is likely to be partners."""
    if not len(near.target):
        return _nothing(shape, limit, seen.decoys)
    best = optimum(near, shape, limit)
    of_target, of_source = (
        bereaved(near, best, shape, limit, side, seed) for side in (True, False)
    )
    cosine = np.abs(best.cosine)
    chance = np.maximum(
        _strange(cosine, seen.decoys, shape[0], limit),
        false_by_kinship(best, of_target, of_source, shape[1]),
    )
    order = np.lexsort((-cosine, chance))
    share = np.cumsum(chance[order]) / np.arange(1, len(order) + 1)  # ascending, as chances are
    count = len(order)
    if false_share is not None:
        count = int(np.sum((share <= false_share) & (chance[order] <= 0.5)))
    kept = np.sort(order[:count])
    is_kept = np.zeros(len(order), bool)
    is_kept[kept] = True
    return FeatureMatch(
        best.target[kept],
        best.source[kept],
        np.where(best.cosine[kept] < 0, -1, 1).astype(np.int8),
        cosine[kept],
        best.lead[kept].min(axis=1),
        best.margin[kept],
        1.0 - chance[kept],
        shape,
        limit,
        float(share[count - 1]) if count else 0.0,
        np.sort(cosine)[::-1],
        seen.decoys,
        of_target.evidence[is_kept[of_target.pair], 0],
        int(is_kept[of_target.asked].sum()),
        best.assignment,
    )


def _strange(
    cosine: npt.NDArray[np.float64], decoys: npt.NDArray[np.float64], n: int, limit: float
) -> npt.NDArray[np.float64]:
    """The chance of each pair to be strangers, [k]."""
    # Features without a partner stay below the limit as often as strangers do.
    below = 1.0 - float(strangers.exceeding(decoys, np.array([limit]))[0])
    alone = min((n - len(cosine)) / max(below, 1e-9), n)
    order = np.argsort(-cosine, kind="stable")
    false = np.maximum.accumulate(alone * strangers.exceeding(decoys, cosine[order]))
    chance = np.empty(len(order))
    chance[order] = strangers.local_shares(false)
    return chance
