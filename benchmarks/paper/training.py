"""The runs that claims on fine-tunes are measured on: of an immature base, and of a later one."""

from __future__ import annotations

from functools import cache

from benchmarks.two_runs import SEPARATING, Runs, runs_from, two_runs

LATE_STEPS = 250
SETTINGS = {
    "model": f"Llama, bytes, d = {SEPARATING.width}, {SEPARATING.layers} layers, 4 heads, tied",
    "steps of the base": SEPARATING.base_steps,
    "AdamW": "betas .9, .95, decay .1, clip 1, "
    f"{SEPARATING.warm_up} steps of warm-up, then {SEPARATING.rate:g}",
    "batch": f"{SEPARATING.batch} x {SEPARATING.length}",
    "run A, B": ("Python's language reference", "Python sources"),
}


@cache
def runs(seed: int) -> Runs:
    """Two runs from the base of a seed."""
    (found,) = two_runs(SEPARATING, [seed])
    return found


@cache
def late_runs(seed: int) -> Runs:
    """Two short ones from the end of run A."""
    start = runs(seed).a[SEPARATING.steps]
    (found,) = runs_from([start], SEPARATING._replace(steps=LATE_STEPS), [seed + 500])
    return found
