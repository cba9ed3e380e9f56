"""Claims carried between two fine-tunes: fidelity by the route of the gauge, and native agreement.

Tiny runs of one base on different text, every checkpoint in a gauge of its own (`two_runs.TINY`).
Fidelity is the gauge's: of the items, those that it carries where the truth does. Native agreement
is the models': of the items that the truth carries, those that the other run's own claim has. Rows
go to results/audit_runs.csv, or below --out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch

import bmatch
from benchmarks import relatives, report, results, two_runs
from bmatch.audit import Fidelity, Recipe, Share, fidelity

SEEDS = (0, 1, 2, 3)
TOP = 8
RECIPE = two_runs.TINY
KEPT = {*range(0, 101, RECIPE.every), *range(100, RECIPE.steps + 1, 50)}
ROUTES = ("path", "endpoint", "via base", "weights")


def recipes(batches: Sequence[Any]) -> dict[str, Recipe]:
    """The claims by what they say."""
    common: dict[str, Any] = {"top": TOP, "sites": (RECIPE.site,), "batches": batches}
    return {
        f"top {TOP} by |mean activation|": Recipe("activation", **common),
        f"top {TOP} by |mean activation|, with signs": Recipe("activation", items="sign", **common),
        f"top {TOP} by gradient x activation": Recipe("gradient_x_activation", **common),
    }


def measure(runs: two_runs.Runs, seed: int) -> dict[tuple[str, str], Fidelity]:
    """By claim and route, between the ends of one pair of runs."""
    steps, models = runs.path(RECIPE.steps)
    carried, truth = two_runs.in_gauges(models, seed)
    batches = relatives.batches(relatives.texts()[2], RECIPE.tokens, seed)
    path = bmatch.Trajectory(carried, batches, base=steps.index(0), sites=[RECIPE.site])
    ends = carried[0], carried[-1]
    return {
        (claim, route): fidelity(recipe, *ends, gauge, truth)
        for claim, recipe in recipes(batches).items()
        for route, gauge in path.routes.items()
    }


def main(arguments: list[str]) -> None:
    """Adds up the pairs of runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks audit_runs", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("audit_runs")
    torch.set_num_threads(1)
    with results.appending("audit_runs", options) as out:
        found: dict[tuple[str, str], Fidelity] = {}
        trained = two_runs.two_runs(RECIPE, options.seeds, KEPT)
        for seed, runs in zip(options.seeds, trained, strict=True):
            for key, one in measure(runs, seed).items():
                found[key] = found[key] + one if key in found else one
        for (claim, route), both in found.items():
            assert both.fidelity is not None
            shares = {"fidelity": both.fidelity, "native agreement": both.native}
            for metric, share in shares.items():
                extra = {"kept": share.kept, "of": share.of, "seeds": list(options.seeds)}
                out.add(claim, route, metric, "", share.rate, extra)
                print(f"{claim}, {route}: {metric} {share}")
    if options.out is None:
        report.write("audit_runs")


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown."""
    newest = results.newest(rows)
    shares = {
        (row.case, row.provider, row.metric): Share(row.extra["kept"], row.extra["of"])
        for row in newest
    }
    lines = [
        f"{newest[-1].origin} {len(newest[-1].extra['seeds'])} pairs of tiny fine-tunes; 95% "
        "Wilson intervals, n = pairs x items.",
        "",
        "| claim | " + " | ".join(f"fidelity, {r}" for r in ROUTES) + " | native agreement |",
        "|---" * (len(ROUTES) + 2) + "|",
    ]
    for claim in dict.fromkeys(row.case for row in newest):
        cells = [str(shares[claim, route, "fidelity"]) for route in ROUTES]
        cells.append(str(shares[claim, ROUTES[0], "native agreement"]))
        lines.append("| " + " | ".join([report.escaped(claim), *cells]) + " |")
    return lines
