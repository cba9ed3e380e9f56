"""The table and the plot of ceilings and kept shares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import Row, newest

_LINES = (
    ("8 factors", 0.0, 0, "0.0", "-"),
    ("8 factors", 0.95, 64, "0.0", "--"),
    ("mixed", 0.8, 0, "0.5", "-"),
    ("mixed", 0.8, 64, "0.5", "--"),
)
"""Structure, shared variance, tokens, grey and style."""
_MARKERS = {"block 5": "v", "block 15": "s", "block 29": "^", "all": "*"}
_SHAPES = {
    "cosine 1": ("0.0", "o"),
    "cosine 0.3": ("0.35", "s"),
    "cosine 0.1": ("0.65", "^"),
    "a few coordinates": ("tab:purple", "D"),
}


def table(rows: Sequence[Row]) -> list[str]:
    """Markdown."""
    kept = newest(rows)
    lines = [
        kept[-1].origin,
        "",
        "## Simulated: where the ceiling is tight",
        "",
        "Fractions of coordinates whose index (raw matching) or index and sign (sign-marginalised) "
        "are right, means over draws with 95% intervals by Student's t; `most` is the greatest raw "
        "fraction of any draw. Tokens -: correlations as they are.",
        "",
        "| structure | shared variance | tokens | mean off-diagonal | row maximum | f | raw | most "
        "| signed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for raw, signed in _pairs(kept, "simulated"):
        told = raw.extra
        cells = [
            *(told["structure"], told["strength"], told["tokens"] or "-"),
            *(f"{told['mean_abs_off_diagonal']:.3f}", f"{told['row_maximum']:.3f}"),
            *(f"{told['f']:.3f}", _mean(raw), f"{told['most']:.3f}", _mean(signed)),
        ]
        lines.append(_row(*cells))
    lines += [
        "",
        "## SmolLM2-135M and itself with weight noise",
        "",
        "| streams | tokens | noise | mean off-diagonal | row maximum | f | raw | signed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for raw, signed in _pairs(kept, "SmolLM2"):
        told = raw.extra
        cells = [
            *(told["site"], told["tokens"], told["noise"]),
            *(f"{told['mean_abs_off_diagonal']:.3f}", f"{told['row_maximum']:.3f}"),
            *(f"{told['f']:.3f}", _mean(raw), _mean(signed)),
        ]
        lines.append(_row(*cells))
    lines += [
        "",
        "## The share of a direction that permutation alone keeps",
        "",
        "| direction | effective coordinates | f | 2f - 1 | kept | sd over gauges | sd foretold | "
        "reversed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in kept:
        if row.metric == "kept share":
            told = row.extra
            cells = [
                *(row.provider, f"{told['effective_coordinates']:.1f}", f"{told['f']:.3f}"),
                *(f"{2 * told['f'] - 1:.3f}", _mean(row)),
                *(f"{told['sd']:.3f}", f"{told['sd_foretold']:.3f}"),
                f"{told['reversed']} of {told['gauges']}",
            ]
            lines.append(_row(*cells))
    told_of = {row.extra["direction"]: row.extra for row in kept if "direction" in row.extra}
    for name, told in told_of.items():
        lines += [
            "",
            f"SmolLM2, {name}: its own effect is {told['effect_nats']:.4f} nats a token (odd "
            f"part), its cosine with the gradient {told['cosine']:.3f}; measured shares and those "
            f"by the formula correlate at {told['correlation_with_formula']:.3f}.",
        ]
    return [*lines, "", "![ceilings and kept shares](ceiling.png)"]


def plot(rows: Sequence[Row], path: Path) -> None:
    """Raw matching against f and against correlation; kept shares against f."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kept = newest(rows)
    figure = Figure(figsize=(14, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    _against_fraction(left, kept)
    _against_correlation(middle, kept)
    _kept_shares(right, kept)
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png", dpi=110)


def _against_fraction(axes: Any, rows: Iterable[Row]) -> None:
    axes.plot([0, 1], [0, 1], color="tab:purple", linewidth=5, alpha=0.25, label="the ceiling f")
    points = [row for row in rows if row.provider == "raw"]
    for structure, strength, tokens, grey, style in _LINES:
        found = [
            row
            for row in points
            if row.extra.get("structure") == structure
            and (row.extra["strength"], row.extra["tokens"]) == (strength, tokens)
        ]
        told = f"{tokens} tokens" if tokens else "exact"
        label = f"{structure}, shared {strength:g}, {told}"
        _line(axes, found, "f", color=grey, linestyle=style, marker=".", label=label)
    for k, (site, marker) in enumerate(_MARKERS.items()):
        found = [row for row in points if row.extra.get("site") == site]
        axes.plot(
            [row.extra["f"] + 0.012 * (k - 1.5) for row in found],
            [row.value for row in found],
            color="black",
            linestyle="",
            marker=marker,
            markersize=7,
            markerfacecolor="white",
            label=f"SmolLM2, {site}",
        )
    axes.set_title("Raw matching reaches f, and no more", fontsize=10)
    axes.set_xlabel("f, fraction of positive signs in the gauge")
    axes.set_ylabel("fraction of coordinates whose index is right")
    axes.set_ylim(-0.02, 1.35)
    axes.legend(fontsize=7.5, loc="upper left", ncols=2)


def _against_correlation(axes: Any, rows: Sequence[Row]) -> None:
    axes.axhline(0.5, color="tab:purple", linewidth=5, alpha=0.25, label="the ceiling f = 0.5")
    half = [row for row in rows if row.metric == "recovered" and row.extra["f"] == 0.5]
    for provider, grey in (("raw", "0.0"), ("signed", "0.6")):
        for structure, marker in (("1 factor", "."), ("mixed", "x")):
            for tokens, style in ((0, "-"), (64, "--")):
                found = [
                    row
                    for row in half
                    if row.provider == provider
                    and row.extra.get("structure") == structure
                    and row.extra["tokens"] == tokens
                ]
                told = f"{tokens} tokens" if tokens else "exact"
                _line(
                    axes,
                    found,
                    "strength",
                    color=grey,
                    linestyle=style,
                    marker=marker,
                    label=f"{provider}, {structure}, {told}",
                )
    axes.set_title("Correlated and mixed coordinates, f = 0.5", fontsize=10)
    axes.set_xlabel("share of variance that coordinates have in common")
    axes.set_ylabel("fraction right: index (raw), index and sign (signed)")
    axes.set_ylim(-0.02, 1.05)
    axes.legend(fontsize=7.5, loc="lower left")


def _kept_shares(axes: Any, rows: Sequence[Row]) -> None:
    axes.plot([0, 1], [-1, 1], color="tab:purple", linewidth=5, alpha=0.25, label="2f - 1")
    axes.axhline(0, color="0.7", linewidth=0.8)
    for k, (name, (color, marker)) in enumerate(_SHAPES.items()):
        found = [row for row in rows if row.provider == name]
        axes.errorbar(
            [row.extra["f"] + 0.012 * (k - 1.5) for row in found],
            [row.value for row in found],
            [row.extra["sd"] for row in found],
            color=color,
            marker=marker,
            markersize=4,
            linestyle="",
            linewidth=1,
            label=f"simulated, {name}",
        )
    measured = (("gradient of other prose", "*", 0.0), ("difference of means", "P", 0.03))
    for name, marker, shift in measured:
        found = [row for row in rows if row.provider == f"SmolLM2, {name}"]
        axes.errorbar(
            [row.extra["f"] + shift for row in found],
            [row.value for row in found],
            [row.extra["sd"] for row in found],
            color="black",
            marker=marker,
            markersize=10,
            markerfacecolor="white",
            linestyle="",
            linewidth=1,
            capsize=3,
            label=f"SmolLM2, {name}, measured",
        )
    axes.set_title("What permutation alone keeps (bars: sd over gauges)", fontsize=10)
    axes.set_xlabel("f, fraction of positive signs in the gauge")
    axes.set_ylabel("share of a direction's effect that is kept")
    axes.set_ylim(-2.4, 3.7)
    axes.legend(fontsize=7.5, loc="upper left")


def _line(axes: Any, found: Sequence[Row], against: str, **look: Any) -> None:
    """Means with their intervals, in the order of what they are drawn against."""
    if not found:
        return
    order = sorted(found, key=lambda row: float(row.extra[against]))
    values = np.array([row.value for row in order])
    limits = np.array([[row.extra["low"], row.extra["high"]] for row in order]).T
    axes.errorbar(
        [row.extra[against] for row in order],
        values,
        np.abs(limits - values),
        linewidth=1.1,
        capsize=2,
        **look,
    )


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _pairs(rows: Sequence[Row], begin: str) -> list[tuple[Row, Row]]:
    """Raw and signed of every case."""
    found = [row for row in rows if row.metric == "recovered" and row.case.startswith(begin)]
    raw = {row.case: row for row in found if row.provider == "raw"}
    return [(raw[row.case], row) for row in found if row.provider == "signed"]


def _mean(row: Row) -> str:
    return f"{row.value:.3f} [{row.extra['low']:.3f}, {row.extra['high']:.3f}]"
