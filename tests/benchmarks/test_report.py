"""The tables of benchmarks/results are what `python -m benchmarks report` makes of the rows."""

from __future__ import annotations

import math
import re

import pytest

from benchmarks import assignment_cuda, assignment_table, load, model, report, results, threads
from benchmarks.harness import Spread
from benchmarks.results import Row

MEASURED = sorted(path.stem for path in results.RESULTS.glob("*.csv"))


def cells(line):
    return len(re.findall(r"(?<!\\)\|", line)) - 1


def row(case, provider, value, date="2026-11-25", machine="a machine", commit="c1", **extra):
    spread = Spread(math.nan, value, math.nan)
    return Row(date, commit, machine, "b", case, provider, "time", "s", spread, extra)


def test_all_results_have_a_page():
    assert set(MEASURED) <= set(report.PAGES)
    assert {path.stem for path in results.RESULTS.glob("*.md")} == set(MEASURED)


@pytest.mark.parametrize("name", MEASURED)
def test_committed_tables_are_what_the_command_makes(name):
    assert (results.RESULTS / f"{name}.md").read_text() == report.page(name)


@pytest.mark.parametrize("name", MEASURED)
def test_rows_of_a_table_have_as_many_cells_as_its_head(name):
    width = 0
    for line in report.page(name).splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        width = width or cells(line)
        assert cells(line) == width, line


def test_the_command_writes_what_has_results(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    report.main([])
    assert list(tmp_path.iterdir()) == []
    assert "memory has no results yet" in capsys.readouterr().out
    with (tmp_path / "load.csv").open("w") as file:
        file.write(",".join(results.COLUMNS) + "\n")
        writer = results.Writer(file, "2026-11-25T01:02", "c1", "a machine", "load")
        writer.add("solve, alone", "bmatch", "time", "s", 1.5, {"threads": 2, "busy": 0})
    report.main([])
    assert (tmp_path / "load.md").read_text().splitlines() == [
        "# Beside a busy process",
        "",
        "<!-- made of load.csv by `python -m benchmarks report` -->",
        "",
        "a machine; commit c1, 2026-11-25T01:02 UTC. Medians by the wall.",
        "",
        "| job | 2 threads alone, s |",
        "|---|---|",
        "| solve | 1.5 |",
    ]


def test_the_assignment_table():
    """Medians over matrices, peers in multiples of ours, what is not optimal marked and no peer."""
    found = {
        "bmatch": ((1e-3, 0.0), (3e-3, 0.0)),
        "one read": ((5e-4, 0.0), (5e-4, 0.0)),
        "scipy": ((4e-3, 0.0), (6e-3, 0.0)),
        "lapjv": ((2e-3, 0.0), (2e-3, 1e-9)),
    }
    rows = [
        row("|a - b| 16 x 16", name, seconds, seed=seed, excess=excess, version=f"{name}-1")
        for name, matrices in found.items()
        for seed, (seconds, excess) in enumerate(matrices)
    ]
    rows.append(row("|a - b| 4 x 8", "bmatch", 1e-6, "2026-11-26", commit="c2", version="bmatch-1"))
    lines = assignment_table.table(rows)
    assert lines[0].startswith(
        "a machine; commits c1, c2, 2026-11-25 to 2026-11-26 UTC; scipy scipy-1, lapjv lapjv-1. One"
    )
    assert lines[lines.index("") + 1 : -2] == [
        "| family | shape | bmatch, ms | one read | scipy | lapjv | best peer |",
        "|---|---|---|---|---|---|---|",
        "| \\|a - b\\| | 4 x 8 | 0.001 | - | - | - | - |",
        "| \\|a - b\\| | 16 x 16 | 2 | 0.25 | 2.5 | 1* | **2.5** (2 to 2) |",
    ]


def test_devices_have_tables_of_their_own():
    rows = [
        row(case, name, seconds, machine=machine, excess=0.0)
        for machine in ("card A", "card B")
        for case in ("uniform 64 x 64", "uniform 9 x 64 x 64")
        for name, seconds in (("bmatch", 1e-3), ("one copy", 5e-4), ("torchmatch", 2e-3))
    ]
    lines = assignment_cuda.table(rows)
    assert [line.split(";")[0] for line in lines if ";" in line] == ["card A", "card B"]
    assert lines.count("| uniform | 9 x 64 x 64 | 1 | 0.5 | 2 | **2** |") == 2


def test_the_table_of_threads():
    one, batch = "planted 4096 x 4096", "uniform 208 x 300 x 300"
    rows = [
        row(case, name, seconds, threads=threads)
        for case, name, threads, seconds in (
            (one, "bmatch", 1, 0.003),
            (one, "bmatch", 2, 0.002),
            (one, "one read", 1, 0.001),
            (one, "one read", 2, 0.0008),
            (batch, "a loop over scipy", 1, 0.5),
            (batch, "bmatch", 1, 0.04),
            (batch, "bmatch", 2, 0.02),
        )
    ]
    lines = threads.table(rows)
    assert "| planted | 4096 | 3 | 1.50 | 1.25 |" in lines
    assert "| 208 x 300 x 300 | 20 | 2.00 | 25.00 |" in lines


def test_the_model_compares_the_kernels_counted_first_and_last():
    def counted(case, kernels, barriers, far, near, seconds):
        extra = {"team": "grid", "barriers": barriers, "far_trips": far, "near_trips": near}
        return row(case, kernels, seconds, **extra)

    lines = model.table(
        [
            counted("uniform 64 x 64", "old", 1000, 2000, 0, 0.0132),
            counted("uniform 64 x 64", "between", 1, 1, 1, 1.0),
            counted("uniform 64 x 64", "new", 10, 20, 5, 0.00125),
            counted("int100 9 x 64 x 64", "new", 10, 20, 5000, 0.0001),
        ]
    )
    assert lines[-2:] == [
        "| uniform 64 | grid | 1000 | 10 | 2,000 | 20 | 13.2 | 1.25 |",
        "| int100, 9 x 64 x 64 | grid | not counted | 10 | not counted | 20 + 5,000 near | "
        "not counted | 0.1 |",
    ]


def test_load_is_told_by_way_and_job():
    rows = [
        row(f"{job}, {place}", "bmatch", seconds, threads=count, busy=busy)
        for job in ("solve uniform 4096", "SiteMoments.update")
        for place, count, busy, seconds in (
            ("alone", 2, 0, 1.0),
            ("beside 1 busy", 2, 1, 8.0),
            ("beside 1 busy", 1, 1, 2.0),
        )
    ]
    assert load.table(rows)[2:] == [
        "| job | 2 threads alone, s | 2 threads beside 1 busy, s | 1 thread beside 1 busy, s |",
        "|---|---|---|---|",
        "| solve uniform 4096 | 1 | 8 | 2 |",
        "| SiteMoments.update | 1 | 8 | 2 |",
    ]
