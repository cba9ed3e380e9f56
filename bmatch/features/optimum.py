"""The best way to pair candidates, and what speaks for each of its pairs.

A pair is as good as its cosine, but also as what else its two features could have had: by how far
it leads the next closest in its row and in its column, and what the whole sum loses without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bmatch.assignment.answer import Assignment
from bmatch.assignment.solver import solve
from bmatch.features.pairs import Pairs


class Optimum(NamedTuple):
    """Pairs of the greatest sum of ``cosine - limit``, the target's ascending.

    Attributes
    ----------
    target, source : int64 [k]
    cosine : float64 [k]
        Signed.
    lead : float64 [k, 2]
        What ``|cosine|`` is more than the next of the target feature, and than the next of the
        source feature, or than the limit where that is more. Negative where another is closer.
    margin : float64 [k]
        See `bmatch.FeatureMatch`.
    assignment : Assignment or None
        None without candidates.
    """

    target: npt.NDArray[np.int64]
    source: npt.NDArray[np.int64]
    cosine: npt.NDArray[np.float64]
    lead: npt.NDArray[np.float64]
    margin: npt.NDArray[np.float64]
    assignment: Assignment | None

    def evidence(self) -> npt.NDArray[np.float64]:
        """What speaks for each pair: size of the cosine, both leads in order, margin: [k, 4]."""
        lead = np.sort(self.lead, axis=1)
        return np.column_stack([np.abs(self.cosine), lead, self.margin])


@dataclass(frozen=True)
class _Candidates:
    """As `bmatch.solve` takes a sparse matrix."""

    row: npt.NDArray[np.int64]
    col: npt.NDArray[np.int64]
    data: npt.NDArray[np.float64]
    shape: tuple[int, int]


def optimum(near: Pairs, shape: tuple[int, int], limit: float) -> Optimum:
    """Of all pairs above the limit, [e]; exactly."""
    if not len(near.target):
        index, real = np.empty(0, np.int64), np.empty(0)
        return Optimum(index, index, real, np.empty((0, 2)), real, None)
    value = np.abs(near.cosine)  # above the limit, so they are cosines where signs count
    candidates: Any = _Candidates(near.target, near.source, value, shape)
    found = solve(candidates, maximize=True, cost_limit=limit)
    own = np.asarray(found.col_of_row)[near.target] == near.source  # [e]
    lead = [
        value[own] - _next(side, value, own, size, limit)[side[own]]
        for side, size in zip((near.target, near.source), shape, strict=True)
    ]
    return Optimum(
        near.target[own],
        near.source[own],
        near.cosine[own],
        np.column_stack(lead),
        _margins(near, value, found, own, limit),
        found,
    )


def _next(
    side: npt.NDArray[np.int64],
    value: npt.NDArray[np.float64],
    own: npt.NDArray[np.bool_],
    size: int,
    limit: float,
) -> npt.NDArray[np.float64]:
    """The best that each feature of a side was not matched with, [size]."""
    best = np.full(size, limit)
    np.maximum.at(best, side[~own], value[~own])
    return best


def _margins(
    near: Pairs,
    value: npt.NDArray[np.float64],
    found: Assignment,
    own: npt.NDArray[np.bool_],
    limit: float,
) -> npt.NDArray[np.float64]:
    """By reduced costs, for each candidate that is matched, [k]; a lower bound.

    Without the pair its row goes elsewhere or stays out, and its column takes another or stays out:
    two different steps of the path that the optimum changes along, and none of the others is free
    of charge by less than nothing.
    """
    u, v = np.asarray(found.row_dual), np.asarray(found.col_dual)
    slack = np.maximum(u[near.target] + v[near.source] - value, 0.0)  # [e]
    leaving = np.maximum(u - limit / 2, 0.0)  # [n]
    left = np.maximum(v - limit / 2, 0.0)  # [m]
    np.minimum.at(leaving, near.target[~own], slack[~own])
    np.minimum.at(left, near.source[~own], slack[~own])
    margin: npt.NDArray[np.float64] = (leaving[near.target] + left[near.source])[own]
    return margin
