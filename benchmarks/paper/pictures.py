"""The paper's claims in one picture, out of the rows of results/paper.csv.

Markers and dashes tell routes apart without colour; bars are Student's intervals of 95%.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.interval import Interval
from benchmarks.results import Row

STYLES = {
    "path": ("o", "-", "#1b4f72"),
    "endpoint": ("s", "--", "#c0622d"),
    "via base": ("^", ":", "#6c7a89"),
    "weights": ("x", "-.", "#2e7d4f"),
}
FILLS = ("#1b4f72", "#c0622d", "#a9b4bd", "#2e7d4f", "#d9c26a", "#6c7a89", "#e6e6e6")


OfRun: TypeAlias = tuple[int, float]
"""The seed of a run, and a figure of it."""


def draw(rows: Sequence[Row], path: Path) -> None:
    """A panel for every claim that has rows: of the quick size, or of the full one."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "bmatch"  # the same figures give the same file
    import matplotlib.pyplot as plt

    panels: dict[str, tuple[str, Callable[[Any, list[Row]], None]]] = {
        "ceiling": ("Matching without signs", _ceiling),
        "trajectory": ("Coordinates recovered along two runs", _trajectory),
        "finetunes": ("The same of SmolLM2's fine-tunes", _trajectory),
        "sentiment": ("Sentiment vector without its signs", _kept),
        "refusal": ("Refusal vector without its signs", _kept),
        "dictionary": ("Sparse autoencoder, carried", _bars("position 0 left out", "NMSE")),
        "optimizer": ("AdamW, 20 steps after transport", _bars(None, "departure of weights", True)),
        "merging": ("Average of two fine-tunes", _bars(None, "loss, nats a byte")),
    }
    of_claim = {name: own for name in panels if (own := _of_one_size(rows, name))}
    columns = min(3, len(of_claim)) or 1
    lines = -(-len(of_claim) // columns) or 1
    figure, axes = plt.subplots(
        lines, columns, figsize=(4.2 * columns, 3.4 * lines), layout="constrained", squeeze=False
    )
    for axis, (name, own) in zip(axes.flat, of_claim.items(), strict=False):
        title, panel = panels[name]
        axis.set_title(title, fontsize=10)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        panel(axis, own)
    for axis in list(axes.flat)[len(of_claim) :]:
        axis.set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _of_one_size(rows: Sequence[Row], claim: str) -> list[Row]:
    own = [row for row in rows if row.extra["claim"] == claim]
    size = "quick" if any(row.extra["size"] == "quick" for row in own) else "full"
    return [row for row in own if row.extra["size"] == size]


def _ceiling(axis: Any, rows: list[Row]) -> None:
    """On the mean over all sites."""
    ways = (("raw", "o", "#1b4f72"), ("signs marginalised", "s", "#c0622d"))
    for route, marker, colour in ways:
        at: dict[float, list[OfRun]] = {}
        for row in rows:
            found = re.fullmatch(r"all, (\d+)% positive", row.case)
            if found and row.provider == route:
                at.setdefault(int(found[1]) / 100, []).append(_of_run(row))
        _line(axis, at, route, marker, "none", colour)
    axis.plot([0, 1], [0, 1], color="black", linewidth=0.7, label="f")
    axis.set(xlabel="share f of positive signs", ylabel="share recovered", ylim=(0, 1.05))
    axis.legend(fontsize=7)


def _trajectory(axis: Any, rows: list[Row]) -> None:
    """Of the first regime, by steps."""
    regime = rows[0].case.rpartition(", ")[0]
    for route, (marker, dashes, colour) in STYLES.items():
        at: dict[int, list[OfRun]] = {}
        for row in rows:
            where, _, steps = row.case.rpartition(", ")
            if (where, row.provider, row.metric) == (regime, route, "recovered"):
                at.setdefault(int(steps.removesuffix(" steps")), []).append(_of_run(row))
        _line(axis, at, route, marker, dashes, colour)
    axis.set(xlabel=f"steps of each run ({regime})", ylabel="share recovered", ylim=(0, 1.05))
    axis.legend(fontsize=7)


def _kept(axis: Any, rows: list[Row]) -> None:
    """Every gauge, and the lines that the means follow."""
    ways = (
        ("permutation alone", "o", "#1b4f72", "#a9b4bd", "-", "2f - 1", (-1, 1)),
        ("raw match", "^", "#c0622d", "#e3c4ae", "--", "f", (0, 1)),
    )
    for route, marker, colour, pale, dashes, formula, ends in ways:
        at: dict[float, list[OfRun]] = {}
        for row in rows:
            if row.provider == route and (found := re.fullmatch(r"(\d+)% positive", row.case)):
                at.setdefault(int(found[1]) / 100, []).append(_of_run(row))
        for share, values in at.items():
            axis.plot([share] * len(values), [v for _, v in values], ".", color=pale, markersize=4)
        if at:
            _line(axis, at, f"{route}, mean", marker, "none", colour)
            axis.plot([0, 1], ends, color="black", linewidth=0.7, linestyle=dashes, label=formula)
    axis.axhline(0, color="black", linewidth=0.4, linestyle=":")
    axis.set(xlabel="share f of positive signs", ylabel="share of the effect kept")
    axis.legend(fontsize=7)


def _bars(case: str | None, label: str, log: bool = False) -> Callable[[Any, list[Row]], None]:
    def panel(axis: Any, rows: list[Row]) -> None:
        values: dict[str, list[OfRun]] = {}
        for row in rows:
            if case in (None, row.case):
                values.setdefault(row.provider, []).append(_of_run(row))
        means = [Interval.over_runs(of_route) for of_route in values.values()]
        axis.bar(
            range(len(values)),
            [m.mean for m in means],
            yerr=_errors(means),
            color=FILLS[: len(values)],
            edgecolor="black",
            linewidth=0.5,
            capsize=2,
        )
        axis.set_xticks(
            range(len(values)), [name.replace(" ", "\n", 1) for name in values], fontsize=7
        )
        axis.set_ylabel(label)
        if log:
            axis.set_yscale("log")
        else:
            low = min(m.mean for m in means)
            axis.set_ylim(0.8 * low if low > 1 else 0)

    return panel


def _line(
    axis: Any, at: dict[Any, list[OfRun]], label: str, marker: str, dashes: str, colour: str
) -> None:
    means = [Interval.over_runs(values) for _, values in sorted(at.items())]
    axis.errorbar(
        sorted(at),
        [m.mean for m in means],
        yerr=_errors(means),
        label=label,
        marker=marker,
        linestyle=dashes,
        color=colour,
        markersize=5,
        capsize=2,
        linewidth=1.3,
    )


def _of_run(row: Row) -> OfRun:
    return row.extra["seed"], row.value


def _errors(means: Iterable[Interval]) -> list[float]:
    """Half of each interval; nothing for a single run."""
    return [m.high - m.mean if m.runs > 1 else 0.0 for m in means]
