"""Several threads: one large problem, and batches of small ones.

In turns in one process, medians. Beside the large problems the same of two plain reads of the
matrix: more cannot be gained where a solve is hardly more than a read. Rows go to
results/threads.csv, or below --out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

import bmatch
from benchmarks import cases, harness, provenance, report, results
from benchmarks.cases import Case
from benchmarks.harness import Spread, timed
from benchmarks.peers import OURS, READ

LARGE = ("planted", "uniform", "spatial", "lowrank")
LOOP = "a loop over scipy"

Times = dict[tuple[str, int], list[float]]  # of a provider and a number of threads


def read(c: cases.Matrix, pool: ThreadPoolExecutor, threads: int) -> float:
    """The greatest entry, by NumPy, in stripes of rows."""
    return float(max(pool.map(np.max, np.array_split(c, threads))))


def large(case: Case, seed: int, threads: int, rounds: int) -> Times:
    """One problem: ours and plain reads, in one thread and in several."""
    c = case.make(seed)
    with ThreadPoolExecutor(threads) as pool:
        calls: dict[tuple[str, int], Callable[[], float]] = {}
        for count in (1, threads):
            calls[OURS, count] = timed(partial(bmatch.solve, c, num_threads=count))
            calls[READ, count] = timed(partial(read, c, pool, count))
        one, several = (bmatch.solve(c, num_threads=count).col_ind for count in (1, threads))
        if not np.array_equal(one, several):
            raise AssertionError(f"{case}: another answer with {threads} threads")
        return harness.in_turns(calls, rounds, seed)


def batch(case: Case, seed: int, threads: int, rounds: int) -> Times:
    """Many problems: ours, and a loop over SciPy."""
    from scipy.optimize import linear_sum_assignment

    c = case.make(seed)

    def loop() -> float:
        return sum(float(one[linear_sum_assignment(one)].sum(dtype=np.float64)) for one in c)

    col_of_row = bmatch.batch_linear_sum_assignment(c, num_threads=threads)
    problem, row = np.nonzero(col_of_row >= 0)
    ours = c[problem, row, col_of_row[problem, row]].sum(dtype=np.float64)
    if abs(ours - loop()) > 1e-9 * ours:
        raise AssertionError(f"{case}: not SciPy's objective")
    calls: dict[tuple[str, int], Callable[[], float]] = {(LOOP, 1): timed(loop)}
    for count in (1, threads):
        run: Callable[[], Any] = partial(bmatch.batch_linear_sum_assignment, c, num_threads=count)
        calls[OURS, count] = timed(run)
    return harness.in_turns(calls, rounds, seed)


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown: one problem, then batches."""
    kept = results.newest(rows)
    threads = max(row.extra["threads"] for row in kept)
    of_case: dict[Case, dict[tuple[str, int], float]] = {}
    for row in kept:
        found = of_case.setdefault(Case.parse(row.case), {})
        found[row.provider, row.extra["threads"]] = row.value
    lines = [
        f"{kept[-1].origin} Times for the whole Python call, duals and certificate included; the "
        "other columns are ratios.",
        "",
        f"| one problem | n | bmatch, ms | {threads} threads gain | a plain read gains |",
        "|---|---|---|---|---|",
    ]
    for case, s in of_case.items():
        if case.problems == 1:
            gain, read_gain = (s[who, 1] / s[who, threads] for who in (OURS, READ))
            ours = s[OURS, 1] * 1e3
            lines.append(
                f"| {case.family} | {case.rows} | {ours:.4g} | {gain:.2f} | {read_gain:.2f} |"
            )
    lines += [
        "",
        f"| batch | bmatch, {threads} threads, ms | 1 thread | a loop over SciPy |",
        "|---|---|---|---|",
    ]
    for case, s in of_case.items():
        if case.problems > 1:
            ours = s[OURS, threads]
            one, loop = s[OURS, 1] / ours, s[LOOP, 1] / ours
            lines.append(f"| {case.shape} | {ours * 1e3:.4g} | {one:.2f} | {loop:.2f} |")
    return lines


def main(arguments: list[str]) -> None:
    """Measures, and writes the tables anew."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks threads", description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sizes", default="4096,8192", help="comma-separated")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=20261125, help="never use it for tuning")
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("threads")
    sizes = [int(size) for size in options.sizes.split(",")]
    problems = [Case(family, n, n) for family in LARGE for n in sizes]
    with results.appending("threads", options) as out:
        for case in (*problems, *cases.BATCHES):
            several = case.problems > 1
            rounds = max(3, options.rounds // 2) if several else options.rounds
            times = (batch if several else large)(case, options.seed, options.threads, rounds)
            for (provider, count), taken in times.items():
                version = provenance.version("scipy" if provider == LOOP else "bmatch")
                extra = {"threads": count, "seed": options.seed, "version": version}
                spread = Spread.of(taken)
                out.add(str(case), provider, "time", "s", spread, extra)
                print(f"{case}, {provider}, threads {count}: {spread.p50:.4g} s", flush=True)
    if options.out is None:
        report.write("threads")
