"""Paths through checkpoints as tables and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table
from rich.text import Text

from bmatch.report.tables import figures

if TYPE_CHECKING:
    from bmatch.trajectory import Trajectory
    from bmatch.trajectory.hop import Hop


def hops_table(hops: tuple[Hop, ...], weakest: Hop) -> Table:
    """A line a hop, the weakest in bold.

    Beside the verdict: the share of coordinates expected to be right, the mean matched correlation,
    the least margin, how many coordinates moved or turned, and how many weights place alike.
    """
    table = Table(title="Hops", title_justify="left", title_style="bold")
    table.add_column("hop", overflow="fold")
    table.add_column("verdict")
    for name in ("expected", "score", "margin", "changed", "weights"):
        table.add_column(name, justify="right")
    for hop in hops:
        told = hop.figures()
        weights = told.get("agrees_with_weights")
        table.add_row(
            Text(way(hop)),
            hop.verdict,
            f"{hop.expected_recovered:.1%}",
            f"{hop.score:.3f}",
            f"{told['margin_least']:.3f}",
            str(hop.changed),
            "" if weights is None else f"{weights:.1%}",
            style="bold" if hop is weakest else "",
        )
    return table


def path_table(path: Trajectory, title: str) -> Table:
    """What the hops come to, beside the other routes."""
    weakest, note = path.weakest, path.gauge().metadata
    rows = [
        ("checkpoints", f"{len(path.stops)}, {len(path.hops)} hops"),
        ("coordinates", f"{path.gauge().dim} ({note['matched_group']})"),
        ("verdict", f"{path.verdict}, as the weakest hop is"),
        (
            "weakest hop",
            f"{way(weakest)}: {weakest.expected_recovered:.1%} expected, "
            f"least margin {weakest.margin.min(initial=np.inf):.3f}",
        ),
    ]
    for name, share in path.consistency.items():
        rows.append(("path agrees with", f"{route_name(name)}: {share:.1%}"))
    return figures(title, rows)


def path_figures(path: Trajectory) -> dict[str, Any]:
    """The same as JSON takes it."""
    turn = path.via_base
    return {
        "dim": path.gauge().dim,
        "verdict": path.verdict,
        "expected_recovered": round(path.weakest.expected_recovered, 4),
        "consistency": path.consistency,
        "warnings": list(path.warnings),
        "hops": [hop.figures() for hop in path.hops],
        "endpoint": path.endpoint.figures(),
        "via_base": None if turn is None else [hop.figures() for hop in turn],
        "metadata": {k: v for k, v in path.gauge().metadata.items() if k != "hops"},
    }


def hop_line(hop: Hop) -> str:
    """A hop in a line, as it is told while a run goes on."""
    return (
        f"{way(hop)}: {hop.verdict}, {hop.expected_recovered:.1%} "
        f"expected, score {hop.score:.3f}, least margin {hop.margin.min(initial=np.inf):.3f}, "
        f"{hop.changed} changed"
    )


def route_name(name: str) -> str:
    """What the path is held against, by its name in `Trajectory.consistency`."""
    return "the way back, on other tokens" if name == "way back" else name.removeprefix("path, ")


def way(hop: Hop) -> str:
    """From where to where; the run is named once if it is one."""
    source, target = hop.source.name, hop.target.name
    run = source.rpartition("/")[0]
    return f"{source} -> {target.removeprefix(f'{run}/') if run else target}"
