"""The assignment solver beside its peers: one process, one thread, random turns, medians.

Rows go to results/assignment.csv, or below --out; then table and plot are made anew.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks import cases, harness, peers, provenance, report, results, smollm2
from benchmarks.assignment_table import SEEDS
from benchmarks.cases import Case
from benchmarks.harness import Spread
from benchmarks.peers import OURS, READ, Found, Solver


def suite(largest: int) -> list[Case]:
    """Every case, families apart, sizes ascending."""
    small = [2, 4, 8, 16, 32, 64, 128, 256, 512]
    large = [n for n in (1024, 2048, 4096, 8192) if n <= largest]
    out = [Case(f, n, n) for f in cases.SQUARE for n in small + large]
    out += [
        Case(f, n, n)
        for f in cases.DEGENERATE
        for n in (16, 64, 256, 512, 1024, 2048, 4096)
        if n <= largest
    ]
    shapes = [(n * a, n * b) for n in (64, 256, 1024) for a, b in ((1, 1), (1, 2), (2, 1))]
    out += [Case(f, n, m) for f in cases.SCIPY for n, m in shapes if max(n, m) <= largest]
    out += [Case(f, n, n) for f, n in cases.REAL.items() if n <= largest]
    return out


class Measured(NamedTuple):
    """Of one solver on one case: seconds over the rounds, and the excess of its objective."""

    spread: Spread
    rounds: int
    excess: float


def measure(case: Case, seed: int, solvers: Mapping[str, Solver]) -> dict[str, Measured]:
    """Every solver on one case."""
    count = max(1, min(8, 1024 // case.rows))  # small cases: several matrices, or branches learn
    matrices = [case.make(seed + k) for k in range(count)]
    times: dict[str, list[float]] = {}
    objectives: dict[str, float] = {}
    wanted: dict[str, int] = {}
    calls: dict[str, Callable[[], float]] = {}

    def passes(solver: Solver, loops: int) -> Callable[[], float]:
        solve = solver.solve

        def run() -> None:
            for _ in range(loops):
                for c in matrices:
                    solve(c)

        return lambda: harness.seconds(run) / (loops * count)

    def answers(solver: Solver) -> tuple[float, list[Any]]:
        found: list[Any] = []
        taken = harness.seconds(lambda: found.extend(map(solver.solve, matrices)))
        return taken / count, found

    for name, solver in solvers.items():
        if min(case.rows, case.cols) >= 2:
            solver.solve(matrices[0][:2, :2].copy())  # the first call imports and allocates
        first, found = answers(solver)
        if name != READ:
            matched = map(solver.matched, found)
            pairs = zip(matrices, matched, strict=True)
            objectives[name] = math.fsum(math.fsum(c[ij].astype(np.float64)) for c, ij in pairs)
        # Long calls count from the first; short ones are repeated until the clock is fine enough.
        times[name] = [first] if first > 0.5 else []
        wanted[name] = 1 if first > 2.0 else 3 if first > 0.2 else 7 if first > 2e-3 else 15
        wanted[name] -= len(times[name])
        once = first if first > 2e-4 else passes(solver, 1)()
        calls[name] = passes(solver, max(1, int(2e-4 / max(once * count, 1e-9))))
    for name, more in harness.in_turns(calls, wanted, seed).items():
        times[name] += more
    excess = peers.excesses(objectives) | {READ: 0.0}
    return {
        name: Measured(Spread.of(taken), len(taken), excess[name]) for name, taken in times.items()
    }


def run(selected: list[Case], seed: int, solvers: dict[str, Solver], out: results.Writer) -> None:
    """Measures, and adds every matrix to the results as soon as it is done."""
    last: dict[tuple[str, str], tuple[int, float]] = {}
    for case in selected:
        asked = {}
        for name, solver in solvers.items():
            n0, seconds = last.get((name, case.family), (case.rows, 0.0))
            needed = peers.foretold(seconds, n0, case.rows)
            if solver.takes(case.rows, case.cols) and (
                name in (OURS, READ) or needed <= peers.SLOWEST
            ):
                asked[name] = solver
        for k in range(SEEDS.get(case.rows, 1)):
            found = measure(case, seed + k, asked)
            for name, one in found.items():
                last[name, case.family] = (case.rows, one.spread.p50)
                extra = {
                    "seed": seed + k,
                    "version": provenance.version(solvers[name].distribution),
                    "rounds": one.rounds,
                    "excess": float(f"{one.excess:.2g}"),
                }
                out.add(str(case), name, "time", "s", one.spread, extra)
            _tell(case, {name: Found(m.spread.p50, m.excess) for name, m in found.items()})


def _tell(case: Case, found: dict[str, Found]) -> None:
    """A line on one matrix: our time, and the best exact peer's in multiples of it."""
    exact = peers.exact_peers(found)
    if not exact:
        return
    best = min(exact, key=exact.__getitem__)
    ours = found[OURS]
    print(
        f"{case.family:18s} {case.rows:5d} x {case.cols:<5d} "
        f"{ours.seconds * 1e3:10.4f} ms  {best:8s} "
        f"{exact[best] / ours.seconds:7.2f}x  excess {ours.excess:.1g}",
        flush=True,
    )


def main(arguments: list[str]) -> None:
    """Measures and reports; ``--report`` only reports."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks assignment",
        description=__doc__,
        epilog="--device cuda: matrices on a device instead, with options of their own",
    )
    parser.add_argument("--families", help="comma-separated; all by default")
    parser.add_argument("--sizes", help="comma-separated numbers of rows; all by default")
    parser.add_argument("--largest", type=int, default=8192, help="no case above this size")
    parser.add_argument("--seed", type=int, default=20261122, help="never use it for tuning")
    parser.add_argument("--solvers", help="comma-separated; all that are installed by default")
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("assignment")
    solvers = {name: solver for name, solver in peers.HOST.items() if solver.is_installed}
    if options.solvers:
        wanted = {OURS, READ, *options.solvers.split(",")}
        solvers = {name: solver for name, solver in solvers.items() if name in wanted}
    selected = suite(options.largest)
    if options.families:
        selected = [c for c in selected if c.family in options.families.split(",")]
    if options.sizes:
        selected = [c for c in selected if str(c.rows) in options.sizes.split(",")]
    absent = smollm2.missing()
    if absent and any(case.family in cases.REAL for case in selected):
        print(absent)
        selected = [case for case in selected if case.family not in cases.REAL]
    with results.appending("assignment", options) as out:
        run(selected, options.seed, solvers, out)
    if options.out is None:
        report.write("assignment")
