"""Several threads: one large problem, and batches of small ones.

Interleaved in one process, medians. Beside the large problems the same of two plain reads of the
matrix: more cannot be gained where a solve is hardly more than a read.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize

import bmatch
from benchmarks import cases, provenance

RESULTS = Path(__file__).parent / "results" / "threads.csv"
COLUMNS = ["date", "commit", "machine", "case", "shape", "what", "threads", "seconds"]
LARGE = ("planted", "uniform", "spatial", "lowrank")
BATCHES = ((208, 300, 300), (208, 300, 100), (208, 300, 600), (10_000, 64, 64))


def read(c: cases.Matrix, pool: ThreadPoolExecutor, threads: int) -> float:
    """The greatest entry, by NumPy, in stripes of rows."""
    return max(pool.map(np.max, np.array_split(c, threads)))


def medians(calls: dict[tuple[str, int], Callable[[], Any]], rounds: int) -> dict[Any, float]:
    """Seconds of each call; the calls take turns."""
    times: dict[Any, list[float]] = {key: [] for key in calls}
    for _ in range(rounds):
        for key, call in calls.items():
            begin = time.perf_counter()
            call()
            times[key].append(time.perf_counter() - begin)
    return {key: statistics.median(seconds) for key, seconds in times.items()}


def large(family: str, n: int, seed: int, threads: int, rounds: int) -> dict[Any, float]:
    """One problem: ours and plain reads, in one thread and in several."""
    c = cases.make(family, n, n, seed)
    with ThreadPoolExecutor(threads) as pool:
        calls: dict[tuple[str, int], Callable[[], Any]] = {}
        for count in (1, threads):
            calls["bmatch", count] = lambda count=count: bmatch.solve(c, num_threads=count)
            calls["one read", count] = lambda count=count: read(c, pool, count)
        answers = [calls["bmatch", count]() for count in (1, threads)]
        if not np.array_equal(answers[0].col_ind, answers[1].col_ind):
            raise AssertionError(f"{family} {n}: another answer with {threads} threads")
        return medians(calls, rounds)


def batch(shape: tuple[int, int, int], seed: int, threads: int, rounds: int) -> dict[Any, float]:
    """Many problems: ours, and a loop over SciPy."""
    c = np.random.default_rng(seed).random(shape, dtype=np.float32)

    def loop() -> float:
        return sum(
            float(one[scipy.optimize.linear_sum_assignment(one)].sum(dtype=np.float64)) for one in c
        )

    col_of_row = bmatch.batch_linear_sum_assignment(c, num_threads=threads)
    problem, row = np.nonzero(col_of_row >= 0)
    ours = c[problem, row, col_of_row[problem, row]].sum(dtype=np.float64)
    if abs(ours - loop()) > 1e-9 * ours:
        raise AssertionError(f"batch {shape}: not SciPy's objective")
    calls: dict[tuple[str, int], Callable[[], Any]] = {("scipy", 1): loop}
    for count in (1, threads):
        calls["bmatch", count] = lambda count=count: bmatch.batch_linear_sum_assignment(
            c, num_threads=count
        )
    return medians(calls, rounds)


def report(results: list[tuple[str, str, dict[Any, float]]], threads: int, about: str) -> None:
    """The tables of README.md."""
    lines = [
        about,
        "",
        f"| one problem | n | bmatch, ms | {threads} threads gain | a plain read gains |",
        "|---|---|---|---|---|",
    ]
    for case, shape, s in results:
        if case != "batch":
            gain, read_gain = (s[w, 1] / s[w, threads] for w in ("bmatch", "one read"))
            ours = s["bmatch", 1] * 1e3
            lines.append(f"| {case} | {shape} | {ours:.4g} | {gain:.2f} | {read_gain:.2f} |")
    lines += [
        "",
        f"| batch | bmatch, {threads} threads, ms | 1 thread | a loop over SciPy |",
        "|---|---|---|---|",
    ]
    for case, shape, s in results:
        if case == "batch":
            ours = s["bmatch", threads]
            one, loop = s["bmatch", 1] / ours, s["scipy", 1] / ours
            lines.append(f"| {shape} | {ours * 1e3:.4g} | {one:.2f} | {loop:.2f} |")
    provenance.show("threads", lines)


def main(arguments: list[str]) -> None:
    """Measures, writes results/threads.csv anew, and the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks threads", description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sizes", default="4096,8192", help="comma-separated")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=20261125, help="never use it for tuning")
    options = parser.parse_args(arguments)
    results = []
    for family in LARGE:
        for n in (int(size) for size in options.sizes.split(",")):
            s = large(family, n, options.seed, options.threads, options.rounds)
            results.append((family, str(n), s))
            print(family, n, {key: f"{value:.4g}" for key, value in s.items()}, flush=True)
    for shape in BATCHES:
        s = batch(shape, options.seed, options.threads, max(3, options.rounds // 2))
        results.append(("batch", " x ".join(map(str, shape)), s))
        print("batch", shape, {key: f"{value:.4g}" for key, value in s.items()}, flush=True)
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M")
    commit, machine = provenance.commit(), provenance.machine()
    with RESULTS.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for case, shape, s in results:
            for (what, count), seconds in s.items():
                writer.writerow([date, commit, machine, case, shape, what, count, f"{seconds:.4g}"])
    about = (
        f"{machine}; commit {commit}, {date} UTC. Times for the whole Python call, duals and "
        "certificate included; the other columns are ratios."
    )
    report(results, options.threads, about)
