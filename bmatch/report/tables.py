"""Results as tables, to be shown by rich."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from bmatch.align import Alignment
    from bmatch.matching import GaugeMatch


def figures(title: str, rows: Iterable[tuple[str, str]]) -> Table:
    """A table of names and values."""
    table = Table(title=Text(title), title_justify="left", title_style="bold", show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def alignment_table(alignment: Alignment, title: str) -> Table:
    """What `align.align_checkpoints` found, as a rich table."""
    m = alignment.match
    read = " and ".join(_read(alignment))
    if m.group == "orthogonal":
        least = f"{m.singular_values[-1]:.2g} of {m.singular_values[0]:.2g}"
        return figures(
            title,
            [
                ("coordinates", f"{m.gauge.dim} ({m.group})"),
                ("read", read),
                ("score", f"{m.score:.3f} mean singular value of the cross-covariance"),
                ("weakest", f"{least}: the least singular value"),
                ("undetermined", f"{m.undetermined} directions"),
            ],
        )
    bounded = int(np.count_nonzero(~m.margin_exact))
    bounds = f"; lower bounds for {bounded}" if bounded else ""
    weakest = np.argsort(m.margin)[:3]
    return figures(
        title,
        [
            ("coordinates", f"{m.gauge.dim} ({m.group})"),
            ("read", read),
            ("verdict", _verdict(m)),
            ("score", f"{m.score:.3f} mean matched correlation"),
            ("margin", f"least {m.margin.min():.3f}, median {np.median(m.margin):.3f}{bounds}"),
            ("weakest", ", ".join(f"{i} ({m.margin[i]:.3f})" for i in weakest)),
            ("tied, no signal", f"{len(m.tied)}, {len(m.no_signal)}"),
            ("off-diagonal", f"{m.mean_abs_off_diagonal:.3f} mean |correlation|"),
            ("positive signs", f"{m.positive_fraction:.1%}: the most matching without signs gets"),
        ],
    )


def _read(alignment: Alignment) -> Iterable[str]:
    if (streams := alignment.streams) is not None:
        yield f"{streams.tokens} tokens at {len(streams.sites)} sites"
    if (weights := alignment.weights) is not None:
        yield f"{weights.rows} rows of {len(weights.tensors)} tensors"


def _verdict(m: GaugeMatch) -> str:
    note = m.gauge.metadata
    parts = {"decoys": "decoys", "bootstrap": "tokens drawn anew", "witness": "weights"}
    by = ", ".join(f"{name} {float(note[key]):.0%}" for key, name in parts.items() if key in note)
    return f"{m.verdict}: {m.expected_recovered:.1%} expected to be right ({by})"
