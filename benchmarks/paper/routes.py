"""Routes from one end of two runs to the other, held against the planted truth."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

import bmatch
from benchmarks import relatives
from benchmarks.paper.claim import RECOVERED, Figure
from bmatch import SignedPermutation
from bmatch.architecture import derive
from bmatch.network_gauge import NetworkGauge

COMPARED = ("path", "endpoint", "via base")
"""Each with the next, within a run: runs differ more from one another than routes do."""


def compared(
    case: str, found: Iterable[Mapping[str, SignedPermutation]], truth: SignedPermutation
) -> Iterator[Figure]:
    """Shares recovered by each route, index and sign: means over subsets of tokens, their spread.

    Parameters
    ----------
    case : str
    found : iterable of mappings
        The routes' gauges, one mapping for each subset.
    truth : SignedPermutation
    """
    shares: dict[str, list[float]] = {}
    for routes in found:
        for route, gauge in routes.items():
            shares.setdefault(route, []).append(gauge.agreement(truth))
    recovered = {route: float(np.mean(of_subsets)) for route, of_subsets in shares.items()}
    for route, share in recovered.items():
        yield Figure(case, route, RECOVERED, "1", share)
        spread = float(np.std(shares[route], ddof=1))
        yield Figure(case, route, "spread over tokens", "1", spread)
    for more, less in itertools.pairwise(COMPARED):
        difference = recovered[more] - recovered[less]
        yield Figure(case, f"{more} less {less}", RECOVERED, "1", difference)


def from_weights(
    case: str, target: Any, source: Any, truth: SignedPermutation, seed: int
) -> Iterator[Figure]:
    """Shares recovered by weights: as the models are, and with neurons and heads in gauges, too."""
    yield Figure(case, "weights", RECOVERED, "1", by_weights(target, source).agreement(truth))
    axes = derive(source.config)
    gauge = NetworkGauge.random(axes, seed)
    assert gauge.residual is not None
    moved = relatives.in_all_gauges(target, gauge, axes)
    share = by_weights(moved, source).agreement(gauge.residual @ truth)
    yield Figure(case, "weights, neurons and heads renumbered", RECOVERED, "1", share)


def by_weights(target: Any, source: Any) -> SignedPermutation:
    """No token is read."""
    gauge: SignedPermutation = bmatch.estimate_gauge(
        target, source, evidence="weights", witness=False
    ).gauge
    return gauge
