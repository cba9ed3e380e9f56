"""Claims about SmolLM2's coordinates in random gauges: which survive, raw, permuted, and signed.

One claim of each kind on the stream after block 15: a set by magnitude, the same with signs, a set
by signed value; then triples of three blocks, correlated pairs, attributions with their weights.
The model is re-expressed in every gauge. Rows go to results/audit.csv, or below --out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import report, results
from bmatch.audit import Recipe, Share, Sweep, gauge_sweeps
from bmatch.models.smollm2 import NAME, read_smollm2
from bmatch.models.text import default_text, token_batches
from bmatch.report.audits import audit_figures, plot_audit

SITE, SITES = 15, (5, 15, 25)
TOKENS, SEQUENCE, TOP = 256, 129, 10
METRIC = "items that survive"


def recipes(batches: Sequence[Any]) -> dict[str, Recipe]:
    """The claims by what they say."""

    def recipe(measure: str, **options: Any) -> Recipe:
        return Recipe(measure, TOP, **{"sites": (SITE,), "batches": batches, **options})

    return {
        "top 10 by |mean activation|": recipe("activation"),
        "top 10 by |mean activation|, with signs": recipe("activation", items="sign"),
        "top 10 by mean activation (signed value)": recipe("activation", by="value"),
        "(site, index, sign): 10 at each of 3 blocks": recipe(
            "activation", items="sign", sites=SITES
        ),
        "(index, index, sign): 10 correlated pairs": recipe("correlation", items="sign"),
        "top 10 by gradient, with weights": recipe("gradient", items="weight"),
        "top 10 by gradient x activation, with weights": recipe(
            "gradient_x_activation", items="weight"
        ),
    }


def main(arguments: list[str]) -> None:
    """Sweeps all claims in the same gauges."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks audit", description=__doc__)
    parser.add_argument("--gauges", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("audit")
    with results.appending("audit", options) as out:
        model, tokenizer = read_smollm2()
        batches = token_batches(tokenizer, default_text(), TOKENS, SEQUENCE)
        sweeps = gauge_sweeps(recipes(batches), model.eval(), options.gauges, options.seed)
        for name, sweep in sweeps.items():
            told = audit_figures(sweep)
            common = {key: told[key] for key in _TOLD} | {"tokens": TOKENS}
            for way, share in sweep.items.items():
                extra = {
                    **common,
                    "kept": share.kept,
                    "of": share.of,
                    "whole": sweep.whole[way].kept,
                    "by_gauge": [round(rate, 4) for rate in sweep.by_gauge[way]],
                }
                out.add(name, way, METRIC, "", share.rate, extra)
                print(f"{name}, {way}: {share}, {sweep.kind}")
    if options.out is None:
        report.write("audit")


_TOLD = (
    *("kind", "carry", "length", "coordinates", "group", "gauges", "positive_signs", "seed"),
    "one_model",
)


def read(rows: Sequence[results.Row]) -> dict[str, Sweep]:
    """Sweeps by claim, out of their rows."""
    by_claim: dict[str, dict[Any, results.Row]] = {}
    for row in results.newest(rows):
        by_claim.setdefault(row.case, {})[row.provider] = row
    found = {}
    for claim, ways in by_claim.items():
        told = ways["raw"].extra
        found[claim] = Sweep(
            told["kind"],
            told["carry"],
            {way: Share(row.extra["kept"], row.extra["of"]) for way, row in ways.items()},
            {way: Share(row.extra["whole"], told["gauges"]) for way, row in ways.items()},
            {way: tuple(row.extra["by_gauge"]) for way, row in ways.items()},
            length=told["length"],
            dim=told["coordinates"],
            group=told["group"],
            positive=told["positive_signs"],
            seed=told["seed"],
            one_model=told["one_model"],
        )
    return found


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown."""
    newest = results.newest(rows)
    told = newest[-1].extra
    lines = [
        f"{newest[-1].origin} {NAME}, float32, {told['tokens']} tokens, {told['gauges']} gauges of "
        f"{told['coordinates']} coordinates, {told['positive_signs']:.1%} of their signs positive.",
        "Share of items that the re-expressed model gives as well, with 95% Wilson intervals, n = "
        "gauges x items.",
        "",
        "| claim | raw | permutation-only | signed | kind |",
        "|---|---|---|---|---|",
    ]
    for claim, sweep in read(rows).items():
        cells = [str(share) for share in sweep.items.values()]
        lines.append("| " + " | ".join([report.escaped(claim), *cells, sweep.kind]) + " |")
    return [*lines, "", "![what survives](audit.png)"]


def plot(rows: Sequence[results.Row], path: Path) -> None:
    """The bars of `bmatch.report.audits`."""
    plot_audit(read(rows), path, f"Index-level claims about {NAME} in random gauges")
