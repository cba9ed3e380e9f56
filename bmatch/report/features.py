"""Matched features as a table and a picture."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from rich.table import Table

from bmatch.features.match import FeatureMatch
from bmatch.report.drawing import ACCENT, DARK, PALE, bare, new_figure, write_png
from bmatch.report.tables import figures


def features_table(match: FeatureMatch, title: str) -> Table:
    """How many features have a partner, and how sure that is."""
    (n, m), count = match.shape, len(match.target_ind)
    rows = [("features", f"{n:,} of the target, {m:,} of the source")]
    if not count:
        rows.append(("matched", "none: nothing is closer than strangers come"))
        return figures(title, rows)
    shares = f"{count / n:.1%} of the target, {count / m:.1%} of the source"
    flipped = int((match.sign < 0).sum())
    rows += [
        ("matched", f"{count:,} ({shares})"),
        ("cosine", f"{np.median(match.cosine):.3f} in the median, least {match.cosine.min():.3f}"),
        ("margin", f"{np.median(match.margin):.3f} in the median, least {match.margin.min():.3f}"),
        ("expected right", f"{match.probability.mean():.1%} of the pairs"),
        *([("flipped", f"{flipped:,} with the negative of their partner")] if flipped else []),
        ("strangers", f"come to {np.median(match.stranger_cosine):.3f} in the median"),
        ("relatives", _relatives(match)),
    ]
    return figures(title, rows)


def _relatives(match: FeatureMatch) -> str:
    found, bereaved = match.relative_cosine, match.bereaved
    if not len(found):
        return f"none: {bereaved:,} features found nothing where their partner was taken away"
    share = f"{len(found) / bereaved:.1%} of features whose partner was taken away"
    return f"come to {np.median(found):.3f} in the median, for {share}"


def plot_features(match: FeatureMatch, path: str | os.PathLike[str], title: str) -> None:
    """Draw cosines beside those of strangers and relatives, and how sure pairs are, as a PNG file.

    Parameters
    ----------
    match : FeatureMatch
    path : path
        Written whole or not at all.
    title : str
        What was matched.
    """
    figure = new_figure(11, 4.4, title)
    left, right = figure.subplots(1, 2)
    _cosines(left, match)
    _sureness(right, match)
    write_png(figure, path)


def _cosines(axes: Any, match: FeatureMatch) -> None:
    strange = match.stranger_cosine
    bins = np.linspace(min(0.0, float(strange.min(initial=0.0))), 1.0, 61)
    axes.hist(match.all_cosine, bins=bins, color=PALE, label="closest pairs, left out")
    axes.hist(match.cosine, bins=bins, color=ACCENT, label=f"matched: {len(match.cosine):,}")
    for cosine, each, style, label in (
        (strange, match.shape[0] / max(len(strange), 1), "-", "if all were strangers"),
        (
            match.relative_cosine,
            len(match.cosine) / max(match.bereaved, 1),
            "--",
            "the matched, partner taken away",
        ),
    ):
        axes.hist(
            cosine,
            bins=bins,
            weights=np.full(len(cosine), each),
            histtype="step",
            linewidth=1.6,
            linestyle=style,
            color="black",
            label=label,
        )
    axes.set_title("Cosine of each pair", fontsize=10)
    axes.set_xlabel("cosine of the two directions")
    axes.set_ylabel("features of the target")
    axes.set_ylim(top=1.25 * axes.get_ylim()[1])  # room for the legend
    axes.legend(fontsize=8, loc="upper center")
    bare(axes)


def _sureness(axes: Any, match: FeatureMatch) -> None:
    ranked = np.argsort(-match.probability, kind="stable")
    number = np.arange(1, len(ranked) + 1)
    for values, color, label in ((match.margin, PALE, "margin"), (match.cosine, DARK, "cosine")):
        axes.plot(number, values[ranked], ".", color=color, markersize=1.5, label=label)
    axes.plot(number, match.probability[ranked], color=ACCENT, label="probability", linewidth=2)
    axes.set_title("Each matched pair, the surest first", fontsize=10)
    axes.set_xlabel("pair")
    axes.set_ylim(0, 1.3)
    axes.legend(fontsize=8, loc="upper right", ncols=3, markerscale=6)
    bare(axes)
