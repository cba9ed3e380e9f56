"""benchmarks/zoo.py: every family is asked, and the table says the worst."""

from __future__ import annotations

import json
import math

import pytest

from benchmarks import results, zoo
from benchmarks.cases import Case
from benchmarks.harness import Spread
from benchmarks.results import Row
from benchmarks.users import USERS


def row(case, provider, outcome, least, machine="a machine"):
    extra = {"outcome": outcome, "version": "1"}
    if least is not None:
        extra["least"] = least
    spread = Spread(math.nan, math.nan if least is None else least, math.nan)
    return Row("2026-11-27", "c1", machine, "zoo", case, provider, "time", "s", spread, extra)


def test_every_family_is_in_every_size_and_both_types():
    suite = zoo.suite(zoo.EVERY, zoo.SIZES)
    assert len(set(suite)) == len(suite)
    for family in USERS:
        of = [c for c in suite if c.family in (family, family + " float64")]
        assert {c.rows for c in of if c.rows == c.cols} == set(zoo.SIZES)
        assert {c.family for c in of} == {family, family + " float64"}
        assert (
            sum(c.rows < c.cols for c in of) == sum(c.rows > c.cols for c in of) == len(zoo.WIDER)
        )
    both = zoo.suite(["IoU", "uniform"], [8, 64], both=True)
    assert [str(case) for case in both] == [
        *("IoU 8 x 8", "IoU float64 8 x 8", "uniform 8 x 8"),
        *("IoU 64 x 64", "IoU float64 64 x 64", "uniform 64 x 64"),
        *("IoU 64 x 128", "IoU 128 x 64", "IoU float64 64 x 128", "IoU float64 128 x 64"),
    ]


def test_a_run_writes_what_the_table_reads(tmp_path, capsys):
    wanted = ["--families", "IoU,|a - b|", "--sizes", "8,64", "--quick", "--solvers", "scipy"]
    zoo.main([*wanted, "--out", str(tmp_path)])
    rows = results.read("zoo", tmp_path)
    assert {row.provider for row in rows} == {"bmatch", "scipy"}
    assert {row.extra["outcome"] for row in rows} == {"optimal"}
    assert {row.case for row in rows} == {
        *("IoU 8 x 8", "IoU float64 64 x 64", "IoU float64 64 x 128", "IoU float64 128 x 64"),
        *("|a - b| 8 x 8", "|a - b| 64 x 64"),
    }
    for one in rows:
        assert one.spread.p50 >= one.extra["least"] > 0
        assert json.dumps(one.extra)
    told = zoo.latest(rows)
    assert told[Case("IoU", 8, 8)].ratios.peer == "scipy"
    assert (
        "| IoU | trackers (SORT, ByteTrack, supervision): sparse | 4 |" in capsys.readouterr().out
    )


def test_the_table():
    rows = [
        *(row("IoU 8 x 8", name, "optimal", t) for name, t in (("bmatch", 1e-3), ("scipy", 4e-3))),
        row("IoU 8 x 8", "lap", "wrong", None),
        *(
            row("IoU float64 400 x 400", name, "optimal", t)
            for name, t in (("bmatch", 2e-3), ("scipy", 1e-3), ("lap", 0.5e-3))
        ),
        row("a|b 9 x 9", "bmatch", "optimal", 1e-3),
        row("a|b 9 x 9", "scipy", "slow", 20e-3),
        row("a|b 9 x 9", "lap", "crashed", None),
        row("IoU 8 x 8", "bmatch", "optimal", 1e-3, "another"),
        row("IoU 8 x 8", "scipy", "optimal", 2e-3, "another"),
    ]
    lines = zoo.table(rows)
    assert [line for line in lines if line.startswith("|")][2:] == [
        "| all | 2 | 0.25 | 2.12 | 1 | 1 | 1 |",
        "| n >= 256 | 1 | 0.25 | 0.25 | 0.25 | 1 | 1 |",
        "| another: all | 1 | 2 | 2 | 2 | 0 | 0 |",
        "| case | ours, ms | best peer | ratio | SciPy |",
        "|---|---|---|---|---|",
        "| IoU float64 400 x 400 | 2 | lap | 0.25 | 0.5 |",
        "| family | who brings it | cases | worst | on | median | worst of SciPy |",
        "|---|---|---|---|---|---|---|",
        "| IoU | trackers (SORT, ByteTrack, supervision): sparse | 2 | 0.25 | 400 x 400 float64 "
        "| 2.12 | 0.5 |",
        "| solver | wrong | refused | crashed | stopped | of |",
        "|---|---|---|---|---|---|",
        "| bmatch | 0 | 0 | 0 | 0 | 3 |",
        "| scipy | 0 | 0 | 0 | 1 | 3 |",
        "| lap | 1 | 0 | 1 | 0 | 3 |",
    ]


def test_time_that_is_over_ends_the_run(tmp_path, capsys):
    with pytest.raises(SystemExit, match="no case"):
        zoo.main(["--families", "IoU", "--sizes", "8", "--seconds", "0", "--out", str(tmp_path)])
    assert results.read("zoo", tmp_path) == []
