"""The assignment solver beside its peers: one process, one thread, random turns, medians."""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.metadata
import importlib.util
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import bmatch
from benchmarks import cases, provenance, smollm2

RESULTS = Path(__file__).parent / "results" / "assignment.csv"
PLOT = RESULTS.with_suffix(".svg")
COLUMNS = [
    *("date", "commit", "machine", "family", "rows", "cols", "dtype", "seed"),
    *("solver", "version", "seconds", "rounds", "excess"),
]
OURS = "bmatch"
READ = "one read"  # NumPy's maximum of the matrix: no solver can do with less than a read
EXACT = 1e-12  # excess of an objective over the best, relative: what is above is not optimal
SLOWEST = 4.0  # seconds a call: peers that would need more are not asked
SEEDS = {1024: 5, 2048: 3, 4096: 3}  # single matrices differ by as much as solvers do; 1 else

Columns = npt.NDArray[np.integer[Any]]


def _lap(c: cases.Matrix) -> Columns:
    import lap

    return lap.lapjv(c, extend_cost=c.shape[0] != c.shape[1], return_cost=False)[0]


def _lapjv(c: cases.Matrix) -> Columns:
    import lapjv

    return lapjv.lapjv(c)[0]


def _scipy(c: cases.Matrix) -> Columns:
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(c)[1]


def _laprust(c: cases.Matrix) -> Columns:
    import laprust

    return laprust.lapjv(c, extend_cost=True, return_cost=False)[1]


def _lapcpp(c: cases.Matrix) -> Columns:
    import lapcpp

    return lapcpp.lapjv(c, extend_cost=True, return_cost=False)[1]


def _fastlap(c: cases.Matrix) -> Columns:
    import fastlap

    return fastlap.linear_sum_assignment(c)[1]


def _bmatch(c: cases.Matrix) -> Columns:
    return bmatch.linear_sum_assignment(c)[1]


def _read(c: cases.Matrix) -> Columns:
    c.max()
    return np.arange(0)


SOLVERS: dict[str, Callable[[cases.Matrix], Columns]] = {
    OURS: _bmatch,
    READ: _read,
    "scipy": _scipy,
    "laprust": _laprust,
    "lapcpp": _lapcpp,
    "lap": _lap,
    "lapjv": _lapjv,
    "fastlap": _fastlap,
}
SQUARE_ONLY = {"lapjv", "lap", "fastlap"}


class Case(NamedTuple):
    """A family at a shape."""

    family: str
    rows: int
    cols: int


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


def measure(case: Case, seed: int, solvers: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Median seconds and excess objective of each solver on one case."""
    count = max(1, min(8, 1024 // case.rows))  # small cases: several matrices, or branches learn
    matrices = [cases.make(case.family, case.rows, case.cols, seed + k) for k in range(count)]
    times: dict[str, list[float]] = {}
    objectives: dict[str, float] = {}
    wanted: dict[str, int] = {}

    def run(name: str) -> float:
        solver = SOLVERS[name]
        seconds = times[name][-1] if name in times else 1.0
        loops = max(1, int(2e-4 / max(seconds * count, 1e-9)))
        begin = time.perf_counter()
        for _ in range(loops):
            for c in matrices:
                solver(c)
        return (time.perf_counter() - begin) / (loops * count)

    for name in solvers:
        if min(case.rows, case.cols) >= 2:
            SOLVERS[name](matrices[0][:2, :2].copy())  # the first call imports and allocates
        total = 0.0
        begin = time.perf_counter()
        answers = [np.asarray(SOLVERS[name](c)) for c in matrices]
        first = (time.perf_counter() - begin) / count
        for c, col in zip(matrices, answers, strict=True) if name != READ else ():
            rows = np.arange(case.rows)
            if case.rows > case.cols:  # the column of matched rows only
                rows = _rows_of(name, c)
            total += math.fsum(c[rows, col].astype(np.float64))
        objectives[name] = total if name != READ else math.inf
        times[name] = [first if first > 0.5 else run(name)]  # long calls count from the first
        wanted[name] = 1 if first > 2.0 else 3 if first > 0.2 else 7 if first > 2e-3 else 15
    order = random.Random(seed)  # or the same neighbour would always leave each its cache
    for k in range(1, max(wanted.values())):
        turn = [name for name in times if k < wanted[name]]
        for name in order.sample(turn, len(turn)):
            times[name].append(run(name))
    best = min(objectives.values())
    scale = max(abs(best), 1e-300)
    return {
        name: {
            "seconds": statistics.median(times[name]),
            "rounds": len(times[name]),
            "excess": (objectives[name] - best) / scale if name != READ else 0.0,
        }
        for name in times
    }


def _rows_of(name: str, c: cases.Matrix) -> Columns:
    """Matched rows of a tall matrix, from the solvers that return both sides."""
    if name == "scipy":
        from scipy.optimize import linear_sum_assignment

        return linear_sum_assignment(c)[0]
    if name == OURS:
        return bmatch.linear_sum_assignment(c)[0]
    module = importlib.import_module(name)
    rows: Columns = module.lapjv(c, extend_cost=True, return_cost=False)[0]
    return rows


def run(selected: list[Case], seed: int, solvers: list[str]) -> None:
    """Measures, and appends every matrix to the results as soon as it is done."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M")
    commit, machine = provenance.commit(), provenance.machine()
    last: dict[tuple[str, str], tuple[int, float]] = {}
    fresh = not RESULTS.exists()
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if fresh:
            writer.writeheader()
        for case in selected:
            asked = []
            for name in solvers:
                if name in SQUARE_ONLY and case.rows != case.cols:
                    continue
                n0, seconds = last.get((name, case.family), (case.rows, 0.0))
                if name in (OURS, READ) or seconds * (case.rows / n0) ** 3 <= SLOWEST:
                    asked.append(name)
            for k in range(SEEDS.get(case.rows, 1)):
                result = measure(case, seed + k, asked)
                for name, row in result.items():
                    last[name, case.family] = (case.rows, row["seconds"])
                    writer.writerow(
                        {
                            "date": stamp,
                            "commit": commit,
                            "machine": machine,
                            "family": case.family,
                            "rows": case.rows,
                            "cols": case.cols,
                            "dtype": cases.dtype(case.family),
                            "seed": seed + k,
                            "solver": name,
                            "version": _version(name),
                            "seconds": f"{row['seconds']:.4g}",
                            "rounds": row["rounds"],
                            "excess": f"{row['excess']:.2g}",
                        }
                    )
                file.flush()
                _tell(case, result)


def _version(name: str) -> str:
    return importlib.metadata.version("numpy" if name == READ else name)


def _tell(case: Case, result: Mapping[str, Mapping[str, Any]]) -> None:
    """A line on one matrix: our time, and the best exact peer's in multiples of it."""
    peers = exact_peers(result)
    if not peers:
        return
    best = min(peers, key=peers.__getitem__)
    ours = result[OURS]
    print(
        f"{case.family:18s} {case.rows:5d} x {case.cols:<5d} "
        f"{ours['seconds'] * 1e3:10.4f} ms  {best:8s} "
        f"{peers[best] / ours['seconds']:7.2f}x  excess {ours['excess']:.1g}",
        flush=True,
    )


def exact_peers(group: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Seconds of the solvers that found an optimal assignment."""
    return {
        name: float(row["seconds"])
        for name, row in group.items()
        if name not in (OURS, READ) and float(row["excess"]) <= EXACT
    }


class Measured(NamedTuple):
    """What the newest run found on a case."""

    of_solver: dict[str, dict[str, Any]]  # medians over the matrices, and the worst excess
    single: list[float]  # of each matrix: its best exact peer's time in multiples of ours

    @classmethod
    def of(cls, rows: list[dict[str, Any]]) -> Measured:
        """From the results of all matrices and solvers."""
        solvers: dict[str, list[dict[str, Any]]] = {}
        matrices: dict[str, dict[str, dict[str, Any]]] = {}
        for row in rows:
            solvers.setdefault(row["solver"], []).append(row)
            matrices.setdefault(row["seed"], {})[row["solver"]] = row
        merged = {
            name: {
                **group[-1],
                "seconds": statistics.median(float(row["seconds"]) for row in group),
                "excess": max(float(row["excess"]) for row in group),
            }
            for name, group in solvers.items()
        }
        single = [
            min(peers) / float(group[OURS]["seconds"])
            for group in matrices.values()
            if (peers := exact_peers(group).values())
        ]
        return cls(merged, single)


def latest() -> dict[tuple[str, int, int], Measured]:
    """The newest run of every case, a family's shapes by size."""
    newest: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    with RESULTS.open() as file:
        for row in csv.DictReader(file):
            rows = newest.setdefault((row["family"], int(row["rows"]), int(row["cols"])), [])
            if rows and rows[0]["date"] < row["date"]:
                rows.clear()
            rows.append(row)
    families = list(dict.fromkeys(family for family, _, _ in newest))
    order = sorted(newest, key=lambda case: (families.index(case[0]), case[1] * case[2], case[1]))
    return {key: Measured.of(newest[key]) for key in order}


def report() -> None:
    """Writes the table of the newest results into README.md, and the plot."""
    table = latest()
    rows = sorted(
        (r for m in table.values() for r in m.of_solver.values()), key=lambda r: r["date"]
    )
    commits = ", ".join(dict.fromkeys(row["commit"] for row in rows))
    versions = {
        name: row["version"]
        for measured in table.values()
        for name, row in measured.of_solver.items()
        if name not in (OURS, READ)
    }
    lines = [
        f"{rows[-1]['machine']}; commits {commits}, {rows[0]['date']} to {rows[-1]['date']} UTC; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ". One thread. Times in milliseconds for the whole Python call; the other columns are",
        "multiples of bmatch's time, so 2.0 is twice as slow as bmatch. -: not asked, because a "
        "smaller case",
        f"foretold more than {SLOWEST:.0f} s, or the shape is not supported. *: its answer is not "
        f"optimal (a sum too large by more than {EXACT:g} of it), and it is no peer there.",
        "Medians over the matrices where several were taken ("
        + ", ".join(f"{count} of {n} rows" for n, count in SEEDS.items())
        + "); in brackets the best peer's least and greatest on one of them.",
        "Each round takes the solvers in a random order, as matrices up to 2048 rows are partly in "
        f"the cache, after some more than after others. {READ}: NumPy's maximum of the matrix.",
        "",
        f"| family | shape | bmatch, ms | {READ} | " + " | ".join(versions) + " | best peer |",
        "|---|---|---|---|" + "---|" * (len(versions) + 1),
    ]
    for (family, n, m), (group, single) in table.items():
        ours = float(group[OURS]["seconds"])
        cells = []
        for name in (READ, *versions):
            if name not in group:
                cells.append("-")
                continue
            wrong = "*" if float(group[name]["excess"]) > EXACT else ""
            cells.append(f"{float(group[name]['seconds']) / ours:.3g}{wrong}")
        peers = exact_peers(group).values()
        best = f"**{min(peers) / ours:.3g}**" if peers else "-"
        if len(single) > 1:
            best += f" ({min(single):.3g} to {max(single):.3g})"
        lines.append(
            f"| {family} | {n} x {m} | {ours * 1e3:.4g} | " + " | ".join(cells) + f" | {best} |"
        )
    provenance.show("assignment", lines)
    plot(table)


def plot(table: Mapping[tuple[str, int, int], Measured]) -> None:
    """Time against n for every family, and how far the best peer lies behind."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "bmatch"  # the same figures give the same file
    import matplotlib.pyplot as plt

    families = list(cases.SQUARE)
    figure, axes = plt.subplots(2, 5, figsize=(18, 7), sharex=True, layout="constrained")
    last = axes.flat[-1]
    for axis, family in zip(axes.flat, families, strict=False):
        ratio: dict[int, float] = {}
        for name in SOLVERS:
            points = [
                (n, float(group[name]["seconds"]) * 1e3)
                for (f, n, m), (group, _) in table.items()
                if f == family and n == m and name in group
            ]
            if points:
                width = 2.5 if name == OURS else 1.0
                axis.loglog(*zip(*points, strict=True), label=name, linewidth=width)
        for (f, n, m), (group, _) in table.items():
            peers = exact_peers(group).values()
            if f == family and n == m and peers:
                ratio[n] = min(peers) / float(group[OURS]["seconds"])
        axis.set_title(family)
        axis.set_ylabel("ms")
        last.loglog(list(ratio), list(ratio.values()), label=family)
    last.axhline(1.0, color="black", linewidth=0.5)
    last.set_title("best peer / bmatch")
    axes.flat[0].legend(fontsize=7)
    last.legend(fontsize=6)
    for axis in axes[-1]:
        axis.set_xlabel("n")
    figure.savefig(PLOT, metadata={"Date": None})


def main(arguments: list[str]) -> None:
    """Measures and reports; ``--report`` only reports."""
    if "--device" in arguments:
        from benchmarks import assignment_cuda

        return assignment_cuda.main(arguments)
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
    parser.add_argument("--report", action="store_true", help="table and plot of what is there")
    options = parser.parse_args(arguments)
    if not options.report:
        solvers = [name for name in SOLVERS if name == READ or importlib.util.find_spec(name)]
        if options.solvers:
            asked = options.solvers.split(",")
            solvers = [name for name in solvers if name in (OURS, READ, *asked)]
        selected = suite(options.largest)
        if options.families:
            selected = [c for c in selected if c.family in options.families.split(",")]
        if options.sizes:
            selected = [c for c in selected if str(c.rows) in options.sizes.split(",")]
        absent = smollm2.missing()
        if absent and any(case.family in cases.REAL for case in selected):
            print(absent)
            selected = [case for case in selected if case.family not in cases.REAL]
        run(selected, options.seed, solvers)
    report()
