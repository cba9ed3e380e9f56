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
from bmatch.assignment.solver import solve
from bmatch.features import strangers
from bmatch.features.pairs import Pairs, as_directions, close_pairs
from bmatch.features.table import write_table
from bmatch.jobs.progress import Progress, silent
from bmatch.jobs.ranks import ALONE, Ranks

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
        The share of pairs expected to be strangers'.
    all_cosine : float64 [l]
        Of all pairs of the optimum, those included that were not kept.
    stranger_cosine : float64 [s]
        The best of strangers, by which probabilities were told.
    assignment : Assignment or None
        The solver's answer for the pairs above the limit, with duals and gap; None if there was
        none.
    """

    target_ind: npt.NDArray[np.int64]
    source_ind: npt.NDArray[np.int64]
    sign: npt.NDArray[np.int8]
    cosine: npt.NDArray[np.float64]
    margin: npt.NDArray[np.float64]
    probability: npt.NDArray[np.float64]
    shape: tuple[int, int]
    limit: float
    false_share: float
    all_cosine: npt.NDArray[np.float64] = field(repr=False)
    stranger_cosine: npt.NDArray[np.float64] = field(repr=False)
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
        """Columns of [k]: target, source, sign, cosine, margin, probability."""
        return {
            "target": self.target_ind,
            "source": self.source_ind,
            "sign": self.sign,
            "cosine": self.cosine,
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
        which cosine says something.
    false_share : float
        Without `least`: keep the closest pairs, as many as leave this share of strangers among
        them, if they are partners rather than not.
    seed : int
        Of the decoys (see `bmatch.features.strangers`).
    progress : callable, optional
        How to show how far it has come (see `bmatch.jobs.progress`).
    ranks : Ranks, optional
        Processes that share the comparison, each with the same arguments, and get the same match
        (see `bmatch.jobs.ranks`).

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

    Pairs are told from strangers by their cosine alone: where relatives in a dictionary lie as
    close as partners do, few or none are kept (pass `least`).

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
    near = close_pairs(one, other, limit, sign_marginalized, progress, ranks)
    found: FeatureMatch | None = None
    if near is not None and seen is not None:
        found = _kept(near, seen, shape, limit, false_share if least is None else None)
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
    return FeatureMatch(index, index, sign, real, real, real, shape, limit, 0.0, real, strange)


@dataclass(frozen=True)
class _Candidates:
    """As `bmatch.solve` takes a sparse matrix."""

    row: npt.NDArray[np.int64]
    col: npt.NDArray[np.int64]
    data: npt.NDArray[np.float64]
    shape: tuple[int, int]


def _kept(
    near: Pairs,
    seen: strangers.Sample,
    shape: tuple[int, int],
    limit: float,
    false_share: float | None,
) -> FeatureMatch:
    """The optimum among candidates, and of it what is not likely to be strangers'."""
    if not len(near.target):
        return _nothing(shape, limit, seen.decoys)
    value = np.abs(near.cosine)  # above the limit, so they are cosines where signs count
    candidates: Any = _Candidates(near.target, near.source, value, shape)
    found = solve(candidates, maximize=True, cost_limit=limit)
    partner = np.asarray(found.col_of_row)  # [n]
    own = partner[near.target] == near.source  # of the optimum
    margin = _margins(near, value, found, limit)[own]
    target, source, cosine = near.target[own], near.source[own], value[own]

    order = np.argsort(-cosine, kind="stable")
    ranked = cosine[order]
    runners_up = seen.runners_up(partner)

    def strange(at: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        sides = (seen.decoys, runners_up)
        return np.maximum(*(strangers.exceeding(side, at) for side in sides))

    # Features without a partner stay below the limit as often as strangers do.
    alone = (shape[0] - len(target)) / max(1.0 - float(strange(np.array([limit]))[0]), 1e-9)
    false = np.maximum.accumulate(min(alone, shape[0]) * strange(ranked))
    probability = np.empty(len(order))
    probability[order] = 1.0 - strangers.local_shares(false)
    share = false / np.arange(1, len(order) + 1)
    count = len(order)
    if false_share is not None:
        count = int(np.flatnonzero(share <= false_share).max(initial=-1)) + 1
        count = min(count, int(np.sum(probability >= 0.5)))  # they fall along the order
    kept = np.sort(order[:count])
    return FeatureMatch(
        target[kept],
        source[kept],
        np.where(near.cosine[own][kept] < 0, -1, 1).astype(np.int8),
        cosine[kept],
        margin[kept],
        probability[kept],
        shape,
        limit,
        min(1.0, float(share[count - 1])) if count else 0.0,
        ranked,
        np.sort(np.concatenate([seen.decoys, runners_up])),
        found,
    )


def _margins(
    near: Pairs, value: npt.NDArray[np.float64], found: Assignment, limit: float
) -> npt.NDArray[np.float64]:
    """By reduced costs, for each candidate [e] that is matched; a lower bound.

    Without the pair its row goes elsewhere or stays out, and its column takes another or stays out:
    two different steps of the path that the optimum changes along, and none of the others is free
    of charge by less than nothing.
    """
    u, v = np.asarray(found.row_dual), np.asarray(found.col_dual)
    own = np.asarray(found.col_of_row)[near.target] == near.source
    slack = np.maximum(u[near.target] + v[near.source] - value, 0.0)  # [e]
    leaving = np.maximum(u - limit / 2, 0.0)  # [n]
    left = np.maximum(v - limit / 2, 0.0)  # [m]
    np.minimum.at(leaving, near.target[~own], slack[~own])
    np.minimum.at(left, near.source[~own], slack[~own])
    return leaving[near.target] + left[near.source]
