"""The table and the plot of the assignment solver beside its peers."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import cases, report
from benchmarks.cases import Case
from benchmarks.peers import BOUNDS, EXACT, HOST, OURS, READ, SLOWEST, Found, exact_peers
from benchmarks.results import Row, newest

SEEDS = {1024: 5, 2048: 3, 4096: 3}
"""Matrices a case: single ones differ by as much as solvers do. 1 for other numbers of rows."""


class Measured(NamedTuple):
    """What the newest run found on a case."""

    of_solver: dict[str, Found]  # medians over the matrices, and the worst excess
    single: list[float]  # of each matrix: its best exact peer's time in multiples of ours

    @property
    def ours(self) -> float:
        """Seconds."""
        return self.of_solver[OURS].seconds

    @property
    def best_peer(self) -> float | None:
        """Seconds of the quickest solver that is not ours; None if none found an optimum."""
        return min(exact_peers(self.of_solver).values(), default=None)

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Measured:
        """From the results of all matrices and solvers."""
        solvers: dict[str, list[Found]] = {}
        matrices: dict[object, dict[str, Found]] = {}
        for row in rows:
            found = Found(row.value, row.extra.get("excess", 0.0))
            solvers.setdefault(row.provider, []).append(found)
            matrices.setdefault(row.extra.get("seed"), {})[row.provider] = found
        merged = {
            name: Found(statistics.median(f.seconds for f in all), max(f.excess for f in all))
            for name, all in solvers.items()
        }
        single = [
            min(peers) / found[OURS].seconds
            for found in matrices.values()
            if (peers := exact_peers(found).values())
        ]
        return cls(merged, single)


def latest(rows: Iterable[Row]) -> dict[Case, Measured]:
    """The newest run of every case, a family's shapes by size."""
    of_case: dict[Case, list[Row]] = {}
    for row in newest(row for row in rows if row.metric == "time"):
        of_case.setdefault(Case.parse(row.case), []).append(row)
    families = list(dict.fromkeys(case.family for case in of_case))
    order = sorted(
        of_case, key=lambda c: (families.index(c.family), c.problems, c.rows * c.cols, c.rows)
    )
    return {case: Measured.of(of_case[case]) for case in order}


def table(rows: Sequence[Row]) -> list[str]:
    """The newest results in Markdown."""
    kept = sorted(newest(rows), key=lambda row: row.date)
    commits = ", ".join(dict.fromkeys(row.commit for row in kept))
    versions = {row.provider: row.extra["version"] for row in kept}
    solvers = [name for name in HOST if name in versions]
    peers = ", ".join(f"{name} {versions[name]}" for name in solvers if name not in (OURS, READ))
    return [
        f"{kept[-1].machine}; commits {commits}, {kept[0].date} to {kept[-1].date} UTC; {peers}. "
        "One thread. Times in milliseconds for the whole Python call; the other columns are",
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
        *body(latest(rows), solvers),
        "",
        "![time against n](assignment.svg)",
    ]


def body(measured: Mapping[Case, Measured], solvers: Iterable[str]) -> list[str]:
    """Our time, everybody's in multiples of it, and the best peer's; ``|`` in names escaped."""
    others = [name for name in solvers if name != OURS]
    lines = [
        f"| family | shape | {OURS}, ms | " + " | ".join(others) + " | best peer |",
        "|---|---|---|" + "---|" * (len(others) + 1),
    ]
    for case, found in measured.items():
        cells = []
        for name in others:
            if name not in found.of_solver:
                cells.append("-")
                continue
            seconds, excess = found.of_solver[name]
            wrong = "*" if excess > EXACT and name not in BOUNDS else ""
            cells.append(f"{seconds / found.ours:.3g}{wrong}")
        best = "-" if found.best_peer is None else f"**{found.best_peer / found.ours:.3g}**"
        if len(found.single) > 1:
            best += f" ({min(found.single):.3g} to {max(found.single):.3g})"
        family = report.escaped(case.family)
        cells = [family, case.shape, f"{found.ours * 1e3:.4g}", *cells, best]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def plot(rows: Iterable[Row], path: Path) -> None:
    """Time against n for every family, and how far the best peer lies behind."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "bmatch"  # the same figures give the same file
    import matplotlib.pyplot as plt

    measured = latest(rows)
    figure, axes = plt.subplots(2, 5, figsize=(18, 7), sharex=True, layout="constrained")
    last = axes.flat[-1]
    for axis, family in zip(axes.flat, cases.SQUARE, strict=False):
        square = {c.rows: m for c, m in measured.items() if c.family == family and c.rows == c.cols}
        for name in HOST:
            points = [
                (n, found.of_solver[name].seconds * 1e3)
                for n, found in square.items()
                if name in found.of_solver
            ]
            if points:
                width = 2.5 if name == OURS else 1.0
                axis.loglog(*zip(*points, strict=True), label=name, linewidth=width)
        ratio = {n: m.best_peer / m.ours for n, m in square.items() if m.best_peer is not None}
        axis.set_title(family)
        axis.set_ylabel("ms")
        last.loglog(list(ratio), list(ratio.values()), label=family)
    last.axhline(1.0, color="black", linewidth=0.5)
    last.set_title("best peer / bmatch")
    axes.flat[0].legend(fontsize=7)
    last.legend(fontsize=6)
    for axis in axes[-1]:
        axis.set_xlabel("n")
    figure.savefig(path, metadata={"Date": None})
