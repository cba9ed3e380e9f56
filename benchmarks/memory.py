"""The memory that a solve takes beside its matrix. Rows go to results/memory.csv, or below --out.

It fails where a solve takes 5% of the matrix or more, or its duals do not prove the answer.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

import bmatch
from benchmarks import cases, report, results
from benchmarks.cases import Case
from benchmarks.peers import OURS
from bmatch.jobs.phases import Phase, phase

TOKENS = 1024  # partners correlate at 0.89, strangers below 0.25


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown."""
    kept = results.newest(rows)
    lines = [
        f"{kept[-1].origin} Planted, {TOKENS} tokens, one thread.",
        "",
        "| n | entries | matrix, GB | the solve, MB | share | s | least reduced cost | "
        "relative gap |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for memory, time in zip(kept[::2], kept[1::2], strict=True):
        matrix, extra = memory.extra["matrix"], time.extra
        case = Case.parse(memory.case)
        entries = case.family.removeprefix("planted").strip() or "float32"
        lines.append(
            f"| {case.rows} | {entries} | {matrix / 1e9:.2f} | {memory.value / 1e6:.1f} | "
            f"{memory.value / matrix:.2%} | {time.value:.3g} | {extra['least reduced cost']:.1e} | "
            f"{extra['relative gap']:.1e} |"
        )
    return lines


def main(arguments: list[str]) -> None:
    """Solves one planted matrix; raises beyond 5% or without a proof."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks memory", description=__doc__)
    parser.add_argument("--rows", type=int, default=32_768)
    parser.add_argument("--seed", type=int, default=20301701, help="never use it for tuning")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "uint8"))
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("memory")
    n = options.rows
    with results.appending("memory", options) as out:
        bmatch.linear_sum_assignment(np.eye(2))  # what is loaded on first use
        c = cases.on_host(options.seed, n).correlation(n, TOKENS, 0.5)
        if options.dtype == "uint8":  # costs lie between 0 and 1
            np.rint(np.multiply(c, 255, out=c), out=c)
        c = c.astype(options.dtype, copy=False)
        phases: list[Phase] = []
        with phase("before", phases):
            pass
        with phase("solve", phases):
            answer = bmatch.solve(c)
        before, solve = phases
        taken = solve.peak_bytes - before.peak_bytes
        proof = bmatch.certify(c, answer)
        relative = proof.gap / abs(proof.objective)
        if taken > 0.05 * c.nbytes or proof.min_reduced_cost < -1e-12 or relative > 1e-12:
            raise AssertionError(f"{taken} bytes for a matrix of {c.nbytes}, {proof}")
        family = "planted" if options.dtype == "float32" else f"planted {options.dtype}"
        case, proved = f"{family} {n} x {n}", {"least reduced cost": proof.min_reduced_cost}
        out.add(case, OURS, "memory", "B", taken, {"matrix": c.nbytes, "tokens": TOKENS})
        out.add(case, OURS, "time", "s", solve.seconds, proved | {"relative gap": relative})
        print(f"{case}: {taken / 1e6:.1f} MB, {taken / c.nbytes:.2%}, {solve.seconds:.3g} s")
    if options.out is None:
        report.write("memory")
