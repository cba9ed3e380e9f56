"""Path composition beside matching of endpoints, the route via the base, and weights alone.

Every checkpoint is planted in a gauge of its own. Path: local gauges from one saved checkpoint to
the next, A_t to the base to B_t, composed. Endpoint: A_t to B_t. Via base: A_t to base to B_t, each
matched directly. What was read is the stream at one site, or, for weights, no token at all. A run's
figure is the mean over subsets of tokens, which are no runs of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import bmatch
from benchmarks import relatives
from benchmarks.paper import training
from benchmarks.paper.claim import Claim, Figure, Size
from benchmarks.paper.routes import COMPARED, compared, from_weights
from benchmarks.two_runs import SEPARATING, in_gauges

SITE = SEPARATING.site
STRIDE = SEPARATING.every
SHOWN = (50, 250, 500, 1000, 1500)


class Regime(NamedTuple):
    """Under which conditions the routes are compared.

    Attributes
    ----------
    name : str
    late : bool
        Whether the base had settled.
    tokens, subsets : int
        Tokens that are matched on, and how often others are drawn.
    stride : int
        Steps from checkpoint to checkpoint.
    shown : tuple of int
        Steps of each run at which its ends are compared.
    """

    name: str
    late: bool
    tokens: int
    subsets: int
    stride: int
    shown: tuple[int, ...]


REGIMES = (
    Regime("immature base, 64 tokens", False, 64, 8, STRIDE, SHOWN),
    Regime("immature base, 2,048 tokens", False, 2048, 4, 250, SHOWN[1:]),
    Regime("immature base, 64 tokens, saved every 250", False, 64, 4, 250, SHOWN[1:]),
    Regime("base of 1,700 steps, 64 tokens", True, 64, 4, STRIDE, SHOWN[:2]),
)


def measure(seed: int, size: Size) -> Iterator[Figure]:
    """Shares of coordinates recovered, index and sign."""
    held_out = relatives.texts()[2]
    for regime in REGIMES:
        runs = training.late_runs(seed) if regime.late else training.runs(seed)
        for step in regime.shown:
            steps, models = runs.path(step, range(regime.stride, step + 1, regime.stride))
            carried, truth = in_gauges(models, seed)
            paths = (
                bmatch.Trajectory(
                    carried,
                    relatives.batches(held_out, regime.tokens, seed + 1000 * k),
                    base=steps.index(0),
                    sites=[SITE],
                    witness=False,
                )
                for k in range(regime.subsets)
            )
            case = f"{regime.name}, {step} steps"
            yield from compared(case, (path.routes for path in paths), truth)
            if regime is REGIMES[0]:
                yield from from_weights(case, carried[-1], carried[0], truth, seed)


CLAIM = Claim(
    "Composing local gauges along saved checkpoints recovers more than matching endpoints",
    "91.1% by the path, 60.3% by endpoints, after 1,500 steps",
    {
        **training.SETTINGS,
        "site": f"after block {SITE}",
        "saved every": STRIDE,
        "token subsets": "8 in the first regime, 4 in others",
    },
    measure,
    compared=COMPARED,
)
