"""What audits found: a table, bars in a PNG file, and a page of HTML that holds both."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from bmatch._version import __version__
from bmatch.audit import Share, Sweep
from bmatch.audit.claims import Way
from bmatch.files.atomic import new_file
from bmatch.report.drawing import ACCENT, DARK, PALE, bare, new_figure, png

_WAYS: dict[Way, tuple[str, str, str]] = {
    "raw": ("as it stands", "white", "..."),
    "permutation": ("indices permuted", PALE, ""),
    "signed": ("indices permuted, signs carried", DARK, ""),
}
"""Of each way of carrying: label, grey, hatch."""


def audit_figures(sweep: Sweep) -> dict[str, Any]:
    """All of an audit, for programs."""
    return {
        "kind": sweep.kind,
        "carry": sweep.carry,
        "items": {way: share_figures(share) for way, share in sweep.items.items()},
        "whole": {way: share_figures(share) for way, share in sweep.whole.items()},
        "length": sweep.length,
        "coordinates": sweep.dim,
        "group": sweep.group,
        "gauges": sweep.whole["raw"].of,
        "positive_signs": sweep.positive,
        "seed": sweep.seed,
        "one_model": sweep.one_model,
    }


def share_figures(share: Share) -> dict[str, Any]:
    """What ``--json`` tells of a share."""
    return {"kept": share.kept, "of": share.of, "rate": share.rate, "interval": share.interval()}


def audit_table(sweeps: Mapping[str, Sweep], title: str) -> Table:
    """A row a claim: the share of items that survive, by way of carrying, and the kind."""
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    table.add_column("claim", overflow="fold")
    for way in _WAYS:
        table.add_column(way, justify="right")
    table.add_column("kind")
    for name, sweep in sweeps.items():
        cells = (f"{share.rate:.3f}\n{_bounds(share)}" for share in sweep.items.values())
        table.add_row(Text(name), *(Text(cell) for cell in cells), sweep.kind)
    return table


def _bounds(share: Share) -> str:
    low, high = share.interval()
    return f"[{low:.3f}, {high:.3f}]"


def plot_audit(sweeps: Mapping[str, Sweep], path: str | os.PathLike[str], title: str) -> None:
    """Draw bars of what survives, with intervals and a dot for each gauge, into a PNG file.

    Parameters
    ----------
    sweeps : mapping of str to Sweep
        By the name of the claim.
    path : path
        Written whole or not at all.
    title : str
        What was audited.
    """
    with new_file(path) as partial:
        partial.write_bytes(_drawn(sweeps, title))


def write_audit(
    sweeps: Mapping[str, Sweep], path: str | os.PathLike[str], title: str, note: str = ""
) -> None:
    """Write a page of HTML in one file: the picture, the figures, and what they mean.

    Parameters
    ----------
    sweeps, title
        As for `plot_audit`.
    path : path
        Written whole or not at all.
    note : str
        What else qualifies the figures: texts, tokens, hashes.
    """
    with new_file(path) as partial:
        partial.write_text(_page(sweeps, title, note), encoding="utf-8")


def _drawn(sweeps: Mapping[str, Sweep], title: str) -> bytes:
    height = 0.27
    figure = new_figure(8.2, 1.5 + 0.75 * len(sweeps), title)
    axes = figure.subplots()
    for row, sweep in enumerate(sweeps.values()):
        for k, (way, (label, grey, hatch)) in enumerate(_WAYS.items()):
            share, y = sweep.items[way], row + (k - 1) * height
            low, high = share.interval()
            axes.barh(
                y,
                share.rate,
                0.86 * height,
                color=grey,
                hatch=hatch,
                edgecolor="0.25",
                linewidth=0.6,
                label=label if row == 0 else None,
            )
            reach = [[share.rate - low], [high - share.rate]]
            axes.errorbar(share.rate, y, xerr=reach, color="black", capsize=2.5, linewidth=1.1)
            axes.text(1.03, y, f"{share.rate:.3f}", va="center", fontsize=8)
            spread = sweep.by_gauge[way]
            axes.scatter(
                spread,
                y + np.linspace(-0.3, 0.3, len(spread)) * height,
                s=7,
                color=ACCENT,
                edgecolor="white",
                linewidth=0.3,
                zorder=3,
            )
    axes.set_yticks(range(len(sweeps)), [_label(n, s) for n, s in sweeps.items()], fontsize=9)
    axes.set_ylim(len(sweeps) - 0.45, -0.55)
    axes.set_xlim(0, 1.14)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    one = next(iter(sweeps.values()))
    axes.set_xlabel(
        "share of items that survive a change of gauge\n"
        f"bars: {one.whole['raw'].of} gauges, 95% Wilson interval; dots: single gauges",
        fontsize=9,
    )
    bare(axes)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return png(figure, dpi=150)


def _label(name: str, sweep: Sweep) -> str:
    return f"{name}\n({sweep.kind})"


_STYLE = """
body { font: 15px/1.45 sans-serif; max-width: 58em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 }
th, td { border-bottom: 1px solid #bbb; padding: .35em .7em; text-align: left; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
img { max-width: 100% } small { color: #555 }
"""


def _page(sweeps: Mapping[str, Sweep], title: str, note: str) -> str:
    picture = base64.b64encode(_drawn(sweeps, title)).decode()
    head = "".join(f"<th>{way}</th>" for way in _WAYS)
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(
            f'<td class="n">{s.rate:.3f}<br><small>{_bounds(s)}<br>{s.kept} of {s.of}; whole '
            f"{sweep.whole[way].kept} of {sweep.whole[way].of}</small></td>"
            for way, s in sweep.items.items()
        )
        + f"<td><b>{sweep.kind}</b><br><small>{html.escape(sweep.carry)}</small></td></tr>\n"
        for name, sweep in sweeps.items()
    )
    one = next(iter(sweeps.values()))
    signs = f"{one.positive:.1%} of their signs are positive"
    carried = [name for name, sweep in sweeps.items() if sweep.one_model]
    told = f" Of {', '.join(carried)} scores were carried in place of the model." if carried else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>
<style>{_STYLE}</style></head><body>
<h1>{html.escape(title)}</h1>
<p>{one.whole["raw"].of} random gauges of {one.dim} coordinates ({one.group}, seed {one.seed};
{signs}).
{html.escape(note + told)} bmatch {__version__}.</p>
<img alt="share of items that survive, by claim and way of carrying"
src="data:image/png;base64,{picture}">
<table><tr><th>claim</th>{head}<th>kind, and what to carry</th></tr>
{rows}</table>
<p><small>In each gauge the model is re-expressed, computing the same function, and the claim made
anew. An item of the old claim survives if the new claim has it: <i>raw</i> as it stands,
<i>permutation</i> with its indices permuted by the gauge, <i>signed</i> with its signs carried too.
Whole: gauges in which every item does. In brackets 95% Wilson score intervals, n = gauges x items.
</small></p>
</body></html>
"""
