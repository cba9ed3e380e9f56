"""Every claim of the paper, measured: a file a claim, at least four runs, means and intervals.

J. Sweeney, "Signed-Permutation Coordinate Transport for RMSNorm Transformers", arXiv 2606.31963
(2026).

``--quick``, the default, takes minutes on two cores; ``--full`` a night there, or a GPU (``--device
cuda``): it fine-tunes SmolLM2 twice a run. A run that was cut off goes on where it stopped: what
the present commit has measured is not measured again, and fine-tunes go on from their last
checkpoints. Rows go to results/paper.csv, or below --out.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch

from benchmarks import provenance, report, results
from benchmarks.interval import Interval
from benchmarks.paper.claim import FINE_TUNED, RECOVERED, RUNS, Claim, Figure, Size
from bmatch.jobs.processes import in_processes

CLAIMS = (
    "function",
    "ceiling",
    "trajectory",
    "finetunes",
    "dictionary",
    "sentiment",
    "refusal",
    "optimizer",
    "merging",
    "audit",
)


def claim(name: str) -> Claim:
    """By the name of its file."""
    found: Claim = importlib.import_module(f"benchmarks.paper.{name}").CLAIM
    return found


def missing(of: Claim) -> list[str]:
    """Packages that it needs, and that are not installed."""
    return [name for name in of.needs if importlib.util.find_spec(name) is None]


def newest(rows: Iterable[results.Row]) -> list[results.Row]:
    """Of every run of a claim the figures of the last date."""
    of_run: dict[Any, list[results.Row]] = {}
    for row in rows:
        kept = of_run.setdefault(tuple(row.extra[key] for key in ("claim", "size", "seed")), [])
        if kept and kept[0].date < row.date:
            kept.clear()
        kept.append(row)
    return [row for kept in of_run.values() for row in kept]


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown: a section a claim, with the paper's figure and the hyper-parameters."""
    kept = newest(rows)
    lines = [
        "Means over runs, with Student's intervals of 95%. A run has a seed of its own, which "
        "draws gauges, noise, tokens and training. Intervals within runs are of routes that the "
        "same runs took, each figure less the mean of its run (Morey 2008): by them routes are "
        "compared.",
    ]
    for name in CLAIMS:
        for size in ("quick", "full"):
            own = [r for r in kept if r.extra["claim"] == name and r.extra["size"] == size]
            if own:
                lines += ["", *_section(claim(name), name, size, own)]
    return lines


def plot(rows: Iterable[results.Row], path: Path) -> None:
    """All claims in one picture."""
    from benchmarks.paper import pictures

    pictures.draw(newest(rows), path)


def _section(of: Claim, name: str, size: str, rows: Sequence[results.Row]) -> list[str]:
    told = "; ".join(
        f"{key}: {_setting(value, size)}"
        for key, value in of.settings.items()
        if not isinstance(value, dict) or size in value
    )
    paired = bool(of.compared)
    lines = [
        f"## {of.says}",
        "",
        f"`python -m benchmarks paper --claims {name} --{size}`. The paper: {of.paper}. {told}.",
        "",
        *_origins(rows),
        "",
        "| case | route | figure | mean | 95% interval |" + " within runs |" * paired + " runs |",
        "|---|---|---|---:|---|" + "---|" * paired + "---:|",
    ]
    groups: dict[tuple[str, str, str, str], list[tuple[int, float]]] = {}
    for row in rows:
        key = (row.case, row.provider, row.metric, row.unit)
        groups.setdefault(key, []).append((row.extra["seed"], row.value))
    within = {
        case: Interval.within_runs({r: dict(groups[case, r, RECOVERED, "1"]) for r in of.compared})
        for case in dict.fromkeys(case for case, *_ in groups)
        if paired
    }
    for (case, route, metric, unit), values in groups.items():
        found = Interval.over_runs(values)
        unit = "" if unit == "1" else f" {unit}"
        cells = [
            report.escaped(case),
            route,
            metric,
            f"{_number(found.mean)}{unit}",
            _bounds(found),
        ]
        if paired:
            is_compared = route in of.compared and metric == RECOVERED
            cells.append(_bounds(within[case][route]) if is_compared else "")
        lines.append(f"| {' | '.join(cells)} | {found.runs} |")
    return lines


def _bounds(found: Interval) -> str:
    return f"{_number(found.low)} to {_number(found.high)}" if found.runs > 1 else ""


def _origins(rows: Sequence[results.Row]) -> list[str]:
    """Where and when, by runs if they differ in it."""
    runs: dict[str, set[int]] = {}
    for row in rows:
        runs.setdefault(row.origin, set()).add(row.extra["seed"])
    if len(runs) == 1:
        return [*runs]
    found: list[str] = []
    for origin, seeds in sorted(runs.items(), key=lambda item: min(item[1])):
        told = ", ".join(map(str, sorted(seeds)))
        found += [*([""] if found else []), f"Runs {told}: {origin}"]
    return found


def _setting(value: Any, size: str) -> str:
    if isinstance(value, dict):
        value = value[size]
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _number(value: float) -> str:
    return f"{value:.3f}" if 0.001 <= abs(value) < 1000 else f"{value:.2g}"


def main(argv: list[str]) -> None:
    """Measures, and writes the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks paper", description=__doc__)
    parser.add_argument("--claims", nargs="+", choices=CLAIMS, default=CLAIMS)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"{RUNS} or more for a mean")
    parser.add_argument("--first", type=int, default=0, help="seed of the first run")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="minutes on two cores; the default")
    size.add_argument("--full", action="store_true", help="hours on two cores, or a GPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--work",
        type=Path,
        help="folder for --full's fine-tunes, 20 GB a process; by default in the user's cache",
    )
    parser.add_argument(
        "--steps", type=int, default=FINE_TUNED, help="of these; fewer to try it, with --out"
    )
    parser.add_argument("--processes", type=int, default=2, help="of one thread each")
    results.arguments(parser)
    options = parser.parse_args(argv)
    if options.report:
        return report.write("paper")
    if options.steps != FINE_TUNED and options.out is None:
        parser.error(f"results/ takes fine-tunes of {FINE_TUNED} steps: --steps needs --out")
    size_name = "full" if options.full else "quick"
    chosen = Size(size_name, options.device, options.steps, options.work)
    measured = {
        (row.extra["claim"], row.extra["size"], row.extra["seed"])
        for row in results.read("paper", options.out)
        if row.commit == provenance.commit()
    }
    wanted = []
    for name in options.claims:
        if chosen.name not in claim(name).sizes:
            print(f"{name}: left out, for it is measured with --{claim(name).sizes[0]} alone")
            continue
        if absent := missing(claim(name)):
            print(f"{name}: left out, for {', '.join(absent)} is not installed")
            continue
        wanted += [
            (name, seed)
            for seed in range(options.first, options.first + options.runs)
            if (name, chosen.name, seed) not in measured
        ]
    with results.appending("paper", options) as out:
        for name, seed, figures in _measured(wanted, chosen, options.processes):
            extra = {"claim": name, "size": chosen.name, "seed": seed}
            for figure in figures:  # of a run together, so that none is half there
                out.add(figure.case, figure.route, figure.metric, figure.unit, figure.value, extra)
    if options.out is None:
        report.write("paper")


Measured: TypeAlias = tuple[str, int, list[Figure]]
"""A claim, the seed of a run, and its figures."""


def _measured(wanted: Sequence[tuple[str, int]], size: Size, processes: int) -> Iterator[Measured]:
    """All runs, as they come; a process has its own seeds, and keeps what it trained."""
    if processes == 1:
        return _runs(wanted, size)
    shares = [[run for run in wanted if run[1] % processes == k] for k in range(processes)]
    return in_processes(partial(_runs, size=size), [share for share in shares if share])


def _runs(wanted: Sequence[tuple[str, int]], size: Size) -> Iterator[Measured]:
    torch.set_num_threads(1)
    for name, seed in wanted:
        before = time.monotonic()
        figures = list(claim(name).measure(seed, size))
        print(f"{name}, run {seed}: {len(figures)} figures in {time.monotonic() - before:.0f} s")
        yield name, seed, figures
