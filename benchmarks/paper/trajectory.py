"""Path composition beside matching of endpoints, the route via the base, and weights alone.

Every checkpoint is planted in a gauge of its own. Path: local gauges from one saved checkpoint to
the next, A_t to the base to B_t, composed. Endpoint: A_t to B_t. Via base: A_t to base to B_t, each
matched directly. What was read is the stream at one site, or, for weights, no token at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import bmatch
from benchmarks import relatives
from benchmarks.paper import training
from benchmarks.paper.claim import Claim, Figure, Size
from benchmarks.two_runs import SEPARATING, in_gauges
from bmatch import SignedPermutation
from bmatch.architecture import derive
from bmatch.network_gauge import NetworkGauge

SITE = SEPARATING.site
STRIDE = SEPARATING.every
SHOWN = (50, 250, 500, 1000, 1500)


class Regime(NamedTuple):
    """Under which conditions the routes are compared."""

    name: str
    late: bool
    tokens: int
    stride: int
    shown: tuple[int, ...]


REGIMES = (
    Regime("immature base, 64 tokens", False, 64, STRIDE, SHOWN),
    Regime("immature base, 2,048 tokens", False, 2048, 250, SHOWN[1:]),
    Regime("immature base, 64 tokens, saved every 250", False, 64, 250, SHOWN[1:]),
    Regime("base of 1,700 steps, 64 tokens", True, 64, STRIDE, SHOWN[:2]),
)


COMPARED = (("path", "endpoint"), ("endpoint", "via base"))
"""Routes within a run: runs differ more from one another than routes do."""


def measure(seed: int, size: Size) -> Iterator[Figure]:
    """Shares of coordinates recovered, index and sign."""
    held_out = relatives.texts()[2]
    for regime in REGIMES:
        runs = training.late_runs(seed) if regime.late else training.runs(seed)
        batches = relatives.batches(held_out, regime.tokens, seed)
        for step in regime.shown:
            steps, models = runs.path(step, range(regime.stride, step + 1, regime.stride))
            carried, truth = in_gauges(models, seed)
            path = bmatch.Trajectory(
                carried, batches, base=steps.index(0), sites=[SITE], witness=False
            )
            found = dict(path.routes)
            if regime is REGIMES[0]:
                found["weights"] = by_weights(carried[-1], carried[0])
            case = f"{regime.name}, {step} steps"
            recovered = {route: gauge.agreement(truth) for route, gauge in found.items()}
            for route, share in recovered.items():
                yield Figure(case, route, "recovered", "1", share)
            for more, less in COMPARED:
                difference = recovered[more] - recovered[less]
                yield Figure(case, f"{more} less {less}", "recovered", "1", difference)
            if regime is REGIMES[0]:
                share = in_every_space(runs.a[step], runs.b[step], seed)
                route = "weights, neurons and heads renumbered"
                yield Figure(case, route, "recovered", "1", share)


def by_weights(target: Any, source: Any) -> SignedPermutation:
    """No token is read."""
    gauge: SignedPermutation = bmatch.estimate_gauge(
        target, source, evidence="weights", witness=False
    ).gauge
    return gauge


def in_every_space(source: Any, target: Any, seed: int) -> float:
    """Share recovered by weights where neurons and heads are in gauges of their own, too."""
    axes = derive(source.config)
    gauge = NetworkGauge.random(axes, seed)
    assert gauge.residual is not None
    return by_weights(relatives.in_all_gauges(target, gauge, axes), source).agreement(
        gauge.residual
    )


CLAIM = Claim(
    "Composing local gauges along saved checkpoints recovers more than matching endpoints",
    "91.1% by the path, 60.3% by endpoints, after 1,500 steps",
    {**training.SETTINGS, "site": f"after block {SITE}", "saved every": STRIDE},
    measure,
)
