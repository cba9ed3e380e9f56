"""Results of all benchmarks: one schema, a file a benchmark, rows added as they are measured.

``date`` and ``commit`` say when and of what, ``machine`` where; ``case`` is what was worked on,
``provider`` who did; ``metric`` is measured in ``unit``, with percentiles over the rounds, empty
where they are not known. ``extra`` is JSON: whatever else qualifies the figure. Of rows of one case
the newest date counts.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from benchmarks import provenance
from benchmarks.harness import Spread

RESULTS = Path(__file__).parent / "results"


class Row(NamedTuple):
    """One figure."""

    date: str  # UTC
    commit: str
    machine: str
    benchmark: str
    case: str
    provider: str
    metric: str
    unit: str
    spread: Spread
    extra: Mapping[str, Any]

    @property
    def value(self) -> float:
        """The median."""
        return self.spread.p50

    @property
    def origin(self) -> str:
        """Where and when, for the line above a table."""
        return f"{self.machine}; commit {self.commit}, {self.date} UTC."


COLUMNS = (*Row._fields[:8], *Spread._fields, "extra")


class Writer:
    """Adds rows of one run to an open file."""

    def __init__(self, file: TextIO, date: str, commit: str, machine: str, benchmark: str) -> None:
        self._file = file
        self._csv = csv.writer(file, lineterminator="\n")
        self._origin = (date, commit, machine, benchmark)

    def add(
        self,
        case: str,
        provider: str,
        metric: str,
        unit: str,
        spread: Spread | float,
        extra: Mapping[str, Any],
    ) -> Row:
        """Writes a figure at once, so that a run that is cut off loses one at most."""
        if not isinstance(spread, Spread):
            spread = Spread(math.nan, spread, math.nan)
        row = Row(*self._origin, case, provider, metric, unit, spread, extra)
        told = json.dumps(row.extra, separators=(",", ":")) if row.extra else ""
        self._csv.writerow([*row[:8], *map(_figure, spread), told])
        self._file.flush()
        return row


def _figure(value: float) -> str:
    """Six digits, integers whole, nothing for NaN."""
    if math.isnan(value):
        return ""
    return str(int(value)) if value == int(value) else f"{value:.6g}"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of all benchmarks that have results."""
    parser.add_argument("--out", type=Path, help="folder whose file gets the rows, not results/")
    parser.add_argument("--dirty", action="store_true", help="results/ may take a dirty tree's")
    parser.add_argument("--report", action="store_true", help="no measurement: the table anew")


@contextmanager
def appending(
    benchmark: str, options: argparse.Namespace, machine: str | None = None
) -> Iterator[Writer]:
    """Opens the file of a benchmark for more rows.

    Raises
    ------
    SystemExit
        Before anything is measured: if the file has other columns, or if rows of a tree that no
        commit has would go to benchmarks/results.
    """
    commit = provenance.commit()
    path = (options.out or RESULTS) / f"{benchmark}.csv"
    if options.out is None and commit.endswith("-dirty") and not options.dirty:
        raise SystemExit(
            f"{path} takes results of commits, and this is {commit}: commit what differs, or pass "
            "--out DIR or --dirty"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists() or not path.stat().st_size
    header = ",".join(COLUMNS)
    if not fresh and path.read_text().split("\n", 1)[0] != header:
        raise SystemExit(f"{path} has other columns than {header}: move it away")
    date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M")
    with path.open("a", newline="") as file:
        if fresh:
            file.write(header + "\n")
        yield Writer(file, date, commit, machine or provenance.machine(), benchmark)
    print(path)


def read(benchmark: str, folder: Path | None = None) -> list[Row]:
    """All rows of a benchmark, in `folder` or in results/; none if it has no file."""
    path = (folder or RESULTS) / f"{benchmark}.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            Row._make(
                (
                    *(cells[name] for name in COLUMNS[:8]),
                    Spread._make(float(cells[name] or "nan") for name in Spread._fields),
                    json.loads(cells["extra"] or "{}"),
                )
            )
            for cells in csv.DictReader(file)
        ]


def newest(rows: Iterable[Row]) -> list[Row]:
    """Of every case the rows of its last run, cases in the order of their first row."""
    of_case: dict[str, list[Row]] = {}
    for row in rows:
        kept = of_case.setdefault(row.case, [])
        if kept and kept[0].date < row.date:
            kept.clear()
        if not kept or kept[0].date == row.date:
            kept.append(row)
    return [row for kept in of_case.values() for row in kept]


def by_machine(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows apart by where they were measured."""
    apart: dict[str, list[Row]] = {}
    for row in rows:
        apart.setdefault(row.machine, []).append(row)
    return apart
