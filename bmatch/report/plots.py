"""Pictures of what a match looks like."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from bmatch.matching import GaugeMatch
from bmatch.report.drawing import ACCENT, bare, new_figure, write_png


def plot_alignment(
    correlation: npt.ArrayLike, match: GaugeMatch, path: str | os.PathLike[str], title: str
) -> None:
    """Draw |C| before and after alignment, and the margins, into a PNG file.

    Parameters
    ----------
    correlation : [d, d]
        ``C[i, j] = corr(target_i, source_j)``.
    match : GaugeMatch
        What `match` made of it.
    path : path
        Written whole or not at all.
    title : str
        What was aligned.
    """
    from matplotlib.colors import PowerNorm

    before = np.abs(np.asarray(correlation))  # [target, source]
    gauge = match.gauge.to(None)
    after = before[:, gauge.perm]  # source coordinates in the target's order
    d = len(before)

    figure = new_figure(13, 4.6, title)
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.15])
    for axes, values, heading in (
        (left, before, "|C| before: partners anywhere"),
        (middle, after, "|C| after: each at its own index"),
    ):
        image = axes.imshow(
            _thickened(values),
            norm=PowerNorm(1.5, vmin=0, vmax=1),  # noise pale, matches dark
            cmap="magma_r",
            extent=(0, d, d, 0),
        )
        axes.set_title(heading, fontsize=10)
        axes.set_xlabel("source coordinate")
    left.set_ylabel("target coordinate")
    figure.colorbar(image, ax=[left, middle], label="|correlation|", shrink=0.85)
    _margins(right, match, before, gauge.perm)
    write_png(figure, path, dpi=85)


def _thickened(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Each pixel the largest of its neighbourhood, so that single entries stay visible."""
    reach = max(1, len(values) // 250)
    peaks: npt.NDArray[Any] = np.pad(values, reach)
    for axis in range(2):
        windows = np.lib.stride_tricks.sliding_window_view(peaks, 2 * reach + 1, axis)
        peaks = windows.max(axis=2)
    return peaks


def _margins(axes: Any, match: GaugeMatch, magnitude: npt.NDArray[Any], perm: Any) -> None:
    d = len(magnitude)
    own = magnitude[np.arange(d), perm]
    rest = magnitude.copy()
    rest[np.arange(d), perm] = 0
    bins = np.linspace(0, 1, 60)
    axes.hist(rest.max(axis=1), bins=bins, color="0.7", label="|C| with the best other")
    axes.hist(own, bins=bins, color=ACCENT, label="|C| with its partner")
    shown = match.margin[np.isfinite(match.margin)]
    end = 1.05 * max(1.0, float(shown.max(initial=0)))
    axes.hist(
        shown,
        bins=np.linspace(0, end, 60),
        histtype="step",
        linewidth=1.6,
        color="black",
        label="margin: what a re-match would cost",
    )
    least = float(match.margin.min()) if d else 0.0
    axes.set_title(
        f"{d} coordinates; least margin {least:.2f} (0 would be a tie){_verdict(match)}",
        fontsize=10,
    )
    axes.set_xlabel("|correlation|, margin")
    axes.set_ylabel("coordinates")
    axes.set_xlim(0, end)
    axes.set_ylim(top=1.35 * axes.get_ylim()[1])  # room for the legend
    axes.legend(fontsize=8, loc="upper left")
    bare(axes)


def _verdict(match: GaugeMatch) -> str:
    if match.verdict is None:
        return ""
    return f"\n{match.verdict}: {match.expected_recovered:.1%} expected to be right"
