"""Results files that grow row by row, so that a run that is cut off loses one row at most."""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

Add = Callable[[Mapping[str, Any]], None]


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the benchmarks of devices have in common."""
    parser.add_argument("--quick", action="store_true", help="a minute: few sizes, few repeats")
    parser.add_argument("--out", type=Path, help="folder whose files get the rows as they come")
    parser.add_argument("--seconds", type=float, help="begin nothing more after so many seconds")


def until(seconds: float | None) -> Callable[[], bool]:
    """Tells whether there is time left to begin another case."""
    end = float("inf") if seconds is None else time.monotonic() + seconds

    def left() -> bool:
        return time.monotonic() < end

    return left


@contextmanager
def growing(name: str, fields: Sequence[str], out: Path | None) -> Iterator[Add]:
    """Writes rows of ``name`` below `out` as they come, after those that are there.

    Without `out` they become ``results/<name>`` once all are there, in place of what was.
    """
    whole = (out or RESULTS) / name
    growing = whole if out else whole.with_name(f"{name}.tmp")
    growing.parent.mkdir(parents=True, exist_ok=True)
    if out and whole.exists() and whole.read_text().split("\n", 1)[0] != ",".join(fields):
        raise SystemExit(f"{whole} has other columns than this benchmark's: move it away")
    fresh = not (out and whole.exists())
    with growing.open("w" if fresh else "a", newline="") as file:
        writer = csv.DictWriter(file, fields, restval="", lineterminator="\n")
        if fresh:
            writer.writeheader()
            file.flush()

        def add(row: Mapping[str, Any]) -> None:
            writer.writerow(row)
            file.flush()

        yield add
    if not out:
        growing.replace(whole)
    print(whole)
