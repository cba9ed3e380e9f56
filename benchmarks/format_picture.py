"""Draws, for every format of dictionaries and directions, its tensors and which sides move.

Out of the tables by which they are carried (`bmatch.transport.sae_formats`, `vectors`): a matrix
stands with its first axis down and its second across, of three axes the last two. A bar along a
side says that the coordinates of the stream lie there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bmatch.report.drawing import ACCENT, PALE, new_figure, write_png
from bmatch.transport import sae_formats, vectors
from bmatch.transport.formats import Format

LONG = {"d": 0.55, "o": 0.55, "f": 1.0}
"""How long a side is drawn, in units of the page; `SHORT` for all others."""
SHORT = 0.25
STREAM = ("d", "o")
ROW, NAMES, COLUMN = 1.5, 5.0, 13.0
MOST = 4
"""Tensors of a format that are drawn; further ones of directions are the same by other names."""


def draw(path: Path) -> None:
    """A row a format, in two columns."""
    formats = [*sae_formats.FORMATS, *vectors.FORMATS]
    rows = -(-len(formats) // 2)
    figure = new_figure(12, 12 * ROW * rows / (2 * COLUMN) + 0.4, "What moves, by format")
    axes = figure.subplots()
    for k, known in enumerate(formats):
        column, row = divmod(k, rows)
        _row(axes, known, NAMES + COLUMN * column, ROW * row)
    axes.set(xlim=(0, 2 * COLUMN), ylim=(ROW * rows - 0.6, -0.75), aspect="equal")
    axes.axis("off")
    write_png(figure, path, dpi=120)


def _row(axes: Any, known: Format, x: float, y: float) -> None:
    """One format's name, what moves of it, and how many tensors stay."""
    axes.text(x - NAMES, y, known.name, va="center", fontsize=7)
    stay, drawn = 0, 0
    for name, words in known.tensors.items():
        letters = [letter.removeprefix("+") for letter in words.split()]
        if not set(STREAM) & set(letters):
            stay += 1
        elif drawn < MOST or known in sae_formats.FORMATS:
            x += _tensor(axes, name or "(the array)", letters, x, y)
            drawn += 1
    axes.text(x, y, f"{stay} stay" if stay else "", va="center", fontsize=6, color="0.35")


def _tensor(axes: Any, name: str, letters: list[str], x: float, y: float) -> float:
    """A rectangle, and how much room it takes."""
    from matplotlib.patches import Rectangle

    high = LONG.get(letters[-2], SHORT) if len(letters) > 1 else 0.1
    wide = LONG.get(letters[-1], SHORT)
    low = y - high / 2
    axes.add_patch(Rectangle((x, low), wide, high, facecolor=PALE, edgecolor="0.3", linewidth=0.5))
    if letters[-1] in STREAM:
        axes.plot([x, x + wide], [low, low], color=ACCENT, linewidth=2.4, solid_capstyle="butt")
    if len(letters) > 1 and letters[-2] in STREAM:
        axes.plot([x, x], [low, low + high], color=ACCENT, linewidth=2.4, solid_capstyle="butt")
    axes.text(x, y + 0.64, name, va="center", fontsize=5)
    return max(wide + 0.25, 0.078 * len(name) + 0.25)
