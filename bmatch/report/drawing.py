"""One style for pictures: greys, which print, and one accent; whole files or none."""

from __future__ import annotations

import io
import os
from typing import Any

from bmatch.files.atomic import new_file

DARK, PALE = "0.45", "0.80"
ACCENT = "tab:purple"


def new_figure(width: float, height: float, title: str) -> Any:
    """A figure of so many inches, without a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12)
    return figure


def bare(axes: Any) -> None:
    """Without the frame's upper and right side."""
    axes.spines[["top", "right"]].set_visible(False)


def png(figure: Any, dpi: int = 110) -> bytes:
    """The figure as a PNG file has it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def write_png(figure: Any, path: str | os.PathLike[str], dpi: int = 110) -> None:
    """Write the figure whole or not at all."""
    with new_file(path) as partial:
        partial.write_bytes(png(figure, dpi))
