"""The memory that a solve takes beside its matrix."""

from __future__ import annotations

import argparse
import datetime

import numpy as np

import bmatch
from benchmarks import cases, provenance
from bmatch.jobs.phases import Phase, phase

TOKENS = 1024  # partners correlate at 0.89, strangers below 0.25


def main(arguments: list[str]) -> None:
    """Solves one planted matrix and writes the table; raises beyond 5% or without a proof."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks memory", description=__doc__)
    parser.add_argument("--rows", type=int, default=32_768)
    parser.add_argument("--seed", type=int, default=20301701, help="never use it for tuning")
    options = parser.parse_args(arguments)
    n = options.rows
    bmatch.linear_sum_assignment(np.eye(2))  # what is loaded on first use
    c = cases.correlation(np.random.default_rng([options.seed, n]), n, TOKENS, 0.5)
    phases: list[Phase] = []
    with phase("before", phases):
        pass
    with phase("solve", phases):
        answer = bmatch.solve(c)
    before, solve = phases
    extra = solve.peak_bytes - before.peak_bytes
    proof = bmatch.certify(c, answer)
    relative = proof.gap / abs(proof.objective)
    if extra > 0.05 * c.nbytes or proof.min_reduced_cost < -1e-12 or relative > 1e-12:
        raise AssertionError(f"{extra} bytes for a matrix of {c.nbytes}, {proof}")
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M")
    lines = [
        f"{provenance.machine()}; commit {provenance.commit()}, {date} UTC. Planted, {TOKENS} "
        "tokens, float32, one thread.",
        "",
        "| n | matrix, GB | the solve, MB | share | s | least reduced cost | relative gap |",
        "|---|---|---|---|---|---|---|",
        f"| {n} | {c.nbytes / 1e9:.2f} | {extra / 1e6:.1f} | {extra / c.nbytes:.2%} | "
        f"{solve.seconds:.3g} | {proof.min_reduced_cost:.1e} | {relative:.1e} |",
    ]
    provenance.show("memory", lines)
    print("\n".join(lines))
