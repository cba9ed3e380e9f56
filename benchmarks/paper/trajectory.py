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
from benchmarks.two_runs import SEPARATING, Runs
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


class Planted(NamedTuple):
    """A model in a gauge of its own."""

    model: Any
    gauge: SignedPermutation


def measure(seed: int, size: Size) -> Iterator[Figure]:
    """Shares of coordinates recovered, index and sign."""
    _, _, held_out = relatives.texts()
    for regime in REGIMES:
        runs = training.late_runs(seed) if regime.late else training.runs(seed)
        batches = relatives.batches(held_out, regime.tokens, seed)
        base, a, b = planted(runs, seed, regime.stride)

        def matched(target: Planted, source: Planted, batches: Any = batches) -> SignedPermutation:
            found = bmatch.estimate_gauge(
                target.model, source.model, batches, [SITE], witness=False
            )
            return found.gauge

        paths = [path(base, run, matched) for run in (a, b)]
        for step in regime.shown:
            truth = b[step].gauge @ a[step].gauge.inverse()
            found = {
                "path": paths[1][step] @ paths[0][step].inverse(),
                "endpoint": matched(b[step], a[step]),
                "via base": matched(b[step], base) @ matched(a[step], base).inverse(),
            }
            if regime is REGIMES[0]:
                found["weights"] = by_weights(b[step].model, a[step].model)
            case = f"{regime.name}, {step} steps"
            for route, gauge in found.items():
                yield Figure(case, route, "recovered", "1", gauge.agreement(truth))
            if regime is REGIMES[0]:
                share = in_every_space(runs.a[step], runs.b[step], seed)
                route = "weights, neurons and heads renumbered"
                yield Figure(case, route, "recovered", "1", share)


def planted(
    runs: Runs, seed: int, stride: int
) -> tuple[Planted, dict[int, Planted], dict[int, Planted]]:
    """The base and both runs, at every stride, each model in a gauge of its own."""
    d = runs.base.config.hidden_size
    count = 0

    def one(model: Any) -> Planted:
        nonlocal count
        count += 1
        gauge = SignedPermutation.random(d, seed=1000 * seed + count)
        return Planted(relatives.in_gauge(model, gauge), gauge)

    a, b = (
        {step: one(model) for step, model in run.items() if step and step % stride == 0}
        for run in (runs.a, runs.b)
    )
    return one(runs.base), a, b


def path(base: Planted, run: dict[int, Planted], matched: Any) -> dict[int, SignedPermutation]:
    """From the base to every checkpoint of a run, by hops from each to the next."""
    found: dict[int, SignedPermutation] = {}
    before, gauge = base, SignedPermutation.identity(base.gauge.dim)
    for step in sorted(run):
        gauge = matched(run[step], before) @ gauge
        found[step], before = gauge, run[step]
    return found


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
