"""A path through checkpoints as a picture: hops by coordinates, margins, and other routes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bmatch.report.drawing import ACCENT, DARK, bare, new_figure, write_png
from bmatch.report.paths import route_name, way

if TYPE_CHECKING:
    from bmatch.trajectory import Trajectory

MOST_NAMES = 40
"""Hops that are named beside their rows; of more, every second or third."""
DOUBTFUL = 0.9
"""Probability below which a coordinate gets a dot."""
LEAST_SHOWN = 0.01
"""Margins below are black: `bmatch align` warns of them."""


def plot_path(path: Trajectory, file: str | os.PathLike[str], title: str) -> None:
    """Draw what is known of every hop, and what the path agrees with, into a PNG file.

    A row a hop, a column a coordinate, followed from checkpoint to checkpoint: its margin, and a
    dot where partner and sign are right with a probability below `DOUBTFUL`. The least sure
    coordinates stand at the left. Beside it the hops' margins in short, below it the shares of
    coordinates on which other routes agree.

    Parameters
    ----------
    path : Trajectory
    file : path
        Written whole or not at all.
    title : str
        What was matched.
    """
    from matplotlib.colors import LogNorm

    sure, margin = _followed(path)  # [hops, D] each
    order = np.lexsort((margin.min(axis=0), sure.min(axis=0)))
    sure, margin = sure[:, order], margin[:, order]
    hops = len(sure)
    agreement = {route_name(name): share for name, share in path.consistency.items()}
    heights = [0.9 + 0.24 * min(hops, MOST_NAMES), 0.7 + 0.24 * len(agreement)]
    figure = new_figure(11, sum(heights) + 0.5, title)
    grid = figure.add_gridspec(2, 2, width_ratios=[2.4, 1], height_ratios=heights)
    map_, short = (figure.add_subplot(grid[0, k]) for k in range(2))
    image = map_.imshow(
        margin,
        aspect="auto",
        interpolation="nearest",
        cmap="gray",
        norm=LogNorm(LEAST_SHOWN, max(2 * LEAST_SHOWN, margin[np.isfinite(margin)].max(initial=0))),
        extent=(-0.5, margin.shape[1] - 0.5, hops - 0.5, -0.5),
    )
    rows, columns = np.nonzero(sure < DOUBTFUL)
    map_.scatter(columns, rows, s=14, color=ACCENT, edgecolor="white", linewidth=0.6)
    step = -(-hops // MOST_NAMES)
    named = range(0, hops, step)
    map_.set_yticks(named, [way(path.hops[k]) for k in named], fontsize=8)
    map_.set_xlabel("coordinates of the stream, the least sure first", fontsize=9)
    map_.set_title(
        f"{len(rows)} of {sure.size} are doubtful (dots: less than {DOUBTFUL:.0%} to be right)",
        fontsize=9,
    )
    figure.colorbar(image, ax=map_, pad=0.01, extend="min").set_label(
        "margin, in units of correlation", fontsize=9
    )
    _margins(short, path, named)
    _agreement(figure.add_subplot(grid[1, :]), agreement)
    write_png(figure, file)


def _followed(path: Trajectory) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Probabilities and margins by hop and by the first checkpoint's coordinates, [hops, D]."""
    origin = np.arange(path.hops[0].gauge.dim)  # where each coordinate began
    found = np.empty((2, len(path.hops), len(origin)))
    for k, hop in enumerate(path.hops):
        origin = origin[hop.gauge.to(None).perm]
        found[:, k, origin] = hop.probability, hop.margin
    return found[0], found[1]


def _margins(axes: Any, path: Trajectory, named: range) -> None:
    """Medians with the middle nine tenths, and what is least."""
    rows = np.arange(len(path.hops))
    low, middle, high = np.array(
        [np.quantile(_finite(hop.margin), (0.05, 0.5, 0.95)) for hop in path.hops]
    ).T
    axes.errorbar(
        middle,
        rows,
        xerr=[middle - low, high - middle],
        fmt="o",
        color="black",
        ecolor=DARK,
        markersize=4,
        capsize=2,
        linewidth=1.1,
        label="median, 5% to 95%",
    )
    axes.plot(
        [hop.margin.min() for hop in path.hops],
        rows,
        "|",
        color=ACCENT,
        markersize=9,
        label="least",
    )
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(named, [])
    axes.set_xlim(left=0)
    axes.set_xlabel("margin, in units of correlation (0: a tie)", fontsize=9)
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
    bare(axes)


def _finite(margin: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Without the margins of those that have no other partner to go to, unless all are such."""
    finite = margin[np.isfinite(margin)]
    return finite if len(finite) else np.zeros(1)


def _agreement(axes: Any, agreement: dict[str, float]) -> None:
    shares = [100 * share for share in agreement.values()]
    axes.barh(range(len(shares)), shares, 0.6, color=DARK, edgecolor="black", linewidth=0.5)
    for row, share in enumerate(shares):
        axes.text(share + 0.8, row, f"{share:.1f}%", va="center", fontsize=8)
    axes.set_yticks(range(len(shares)), list(agreement), fontsize=8)
    axes.set_ylim(len(shares) - 0.4, -0.6)
    axes.set_xlim(0, 109)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("coordinates on which the path agrees with it, %", fontsize=9)
    bare(axes)
