"""benchmarks/results.py: rows as they come, of commits only, the newest run of a case."""

from __future__ import annotations

import argparse
import math

import pytest

from benchmarks import provenance, results
from benchmarks.harness import Spread
from benchmarks.results import Row

HEADER = "date,commit,machine,benchmark,case,provider,metric,unit,p20,p50,p80,extra"


def options(out=None, dirty=False):
    return argparse.Namespace(out=out, dirty=dirty)


@pytest.fixture
def committed(tmp_path, monkeypatch):
    """Results of their own, in a tree that a commit has."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(provenance, "commit", lambda: "abc1234")
    return tmp_path


def row(case, date, provider="bmatch", value=1.0, machine="a machine", **extra):
    spread = Spread(math.nan, value, math.nan)
    return Row(date, "abc1234", machine, "b", case, provider, "time", "s", spread, extra)


def test_what_is_added_is_read(committed):
    with results.appending("b", options(), "a machine, here") as out:
        out.add("|a - b| 4 x 4", "bmatch", "time", "s", Spread(0.1, 0.25, 1 / 3), {"seed": 7})
        out.add("|a - b| 4 x 4", "bmatch", "memory", "B", 62_038_016, {})
    first, second = results.read("b", committed)
    assert first[1:8] == (
        *("abc1234", "a machine, here", "b", "|a - b| 4 x 4", "bmatch", "time", "s"),
    )
    assert first.spread == (0.1, 0.25, 0.333333)
    assert (first.value, first.extra) == (0.25, {"seed": 7})
    assert second.value == 62_038_016
    assert math.isnan(second.spread.p20)
    assert second.extra == {}
    assert (committed / "b.csv").read_text().splitlines()[0] == HEADER
    assert results.read("nothing", committed) == []


def test_rows_are_in_the_file_as_they_come(tmp_path, committed):
    def stopped_after_two():
        with results.appending("b", options(tmp_path / "out")) as out:
            out.add("one", "bmatch", "time", "s", 1.0, {})
            out.add("two", "bmatch", "time", "s", 2.0, {})
            assert len(results.read("b", tmp_path / "out")) % 2 == 0
            raise KeyboardInterrupt

    for runs in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            stopped_after_two()
        found = results.read("b", tmp_path / "out")
        assert [row.case for row in found] == ["one", "two"] * runs


def test_a_file_of_other_columns_is_left_alone(committed):
    (committed / "b.csv").write_text("a,b\n1,2\n")
    with (
        pytest.raises(SystemExit, match="other columns than date,commit"),
        results.appending("b", options()),
    ):
        pass
    assert (committed / "b.csv").read_text() == "a,b\n1,2\n"


def test_results_of_a_dirty_tree_are_refused_before_anything_is_measured(committed, monkeypatch):
    monkeypatch.setattr(provenance, "commit", lambda: "abc1234-dirty")
    with (
        pytest.raises(SystemExit, match="this is abc1234-dirty"),
        results.appending("b", options()),
    ):
        pytest.fail("measured")
    assert not (committed / "b.csv").exists()
    for told in (options(dirty=True), options(out=committed / "out")):
        with results.appending("b", told) as out:
            assert out.add("one", "bmatch", "time", "s", 1.0, {}).commit == "abc1234-dirty"


def test_of_a_case_the_newest_run_counts():
    rows = [
        row("one", "2026-11-25", "bmatch"),
        row("one", "2026-11-25", "scipy"),
        row("two", "2026-11-25"),
        row("one", "2026-11-26", "bmatch", 2.0),
        row("two", "2026-11-24", "bmatch", 3.0),
        row("one", "2026-11-26", "scipy", 4.0),
    ]
    assert results.newest(rows) == [rows[3], rows[5], rows[2]]


def test_machines_apart():
    rows = [row("one", "d", machine=name) for name in ("b", "a", "b")]
    assert results.by_machine(rows) == {"b": [rows[0], rows[2]], "a": [rows[1]]}
