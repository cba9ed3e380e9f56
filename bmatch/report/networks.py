"""What the alignment of whole networks found, as figures and as a table."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from bmatch.network import NetworkMatch, SpaceMatch


def network_figures(found: NetworkMatch) -> dict[str, Any]:
    """All of it, for programs."""
    return {
        "objective": list(found.objective),
        "passes": found.passes,
        "settled": found.settled,
        "moves": [{"space": name, "rise": rise} for name, rise in found.moves],
        "spaces": {
            name: {
                "kind": match.kind,
                "group": match.group,
                "units": len(match.margin),
                "score": match.score,
                "margin_least": float(match.margin.min()),
                "margin_median": float(np.median(match.margin)),
                "margins_exact": int(match.margin_exact.sum()),
                "tied": np.flatnonzero(match.margin <= 0).tolist(),
                "gap": match.gap,
            }
            for name, match in found.spaces.items()
        },
        "metadata": found.gauge.metadata,
    }


def network_table(found: NetworkMatch, title: str) -> Table:
    """A row for each kind of space."""
    kinds: dict[str, list[SpaceMatch]] = defaultdict(list)
    for match in found.spaces.values():
        kinds[match.kind].append(match)
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    table.add_column("kind")
    for name in ("spaces", "units", "score", "least margin", "tied"):
        table.add_column(name, justify="right")
    for kind, matches in kinds.items():
        units = sum(len(m.margin) for m in matches)
        table.add_row(
            kind,
            f"{len(matches):,}",
            f"{units:,}",
            f"{sum(m.score * len(m.margin) for m in matches) / units:.3f}",
            f"{min(m.margin.min() for m in matches):.3f}",
            f"{sum(int((m.margin <= 0).sum()) for m in matches):,}",
        )
    return table
