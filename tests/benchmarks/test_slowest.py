"""benchmarks/slowest.py: what the search keeps can be made again, and tables say it."""

from __future__ import annotations

import math

import pytest

import bmatch
from benchmarks import recipes, results, slowest
from benchmarks.cases import Case
from benchmarks.harness import Spread
from benchmarks.results import Row
from benchmarks.slowest import Search, Tried


def test_by_passes_what_is_kept_is_made_again(tmp_path, capsys):
    slowest.main(
        ["--counters", "--cases", "40", "--largest", "64", "--keep", "3", "--out", str(tmp_path)]
    )
    rows = results.read("slowest", tmp_path)
    assert len(rows) == 3
    for row in rows:
        assert (row.metric, row.unit, row.provider) == ("passes", "rows", "bmatch")
        case = Case.parse(row.case)
        assert recipes.is_recipe(case.family)
        passes = bmatch.solve(case.make(row.extra["seed"])).stats["passes"]
        assert passes == pytest.approx(row.value, rel=1e-4)
    assert "cases tried" in capsys.readouterr().out


def test_beside_a_peer(tmp_path):
    slowest.main(
        [
            "--cases",
            "4",
            "--largest",
            "30",
            "--keep",
            "2",
            "--solvers",
            "scipy",
            "--out",
            str(tmp_path),
        ]
    )
    rows = results.read("slowest", tmp_path)
    assert len(rows) == 2
    for row in rows:
        assert row.metric == "ratio"
        assert row.extra["outcome"] == "optimal"
        assert row.extra["peer"] == "scipy"
        assert row.value > 0
    of_one = slowest.table(rows)
    assert len(of_one) == 8
    older = [row._replace(date="2020-01-01T00:00") for row in rows]
    assert slowest.table([*older, *rows]) == of_one  # the last search alone
    elsewhere = [row._replace(machine="another") for row in older]
    both = slowest.table([*elsewhere, *rows])
    assert both[: len(of_one)] == of_one
    assert both[len(of_one) + 1].startswith("another")


def test_a_seed_searches_the_same():
    first, second = (Search({}, 100, 5) for _ in range(2))
    assert [first.drawn() for _ in range(20)] == [second.drawn() for _ in range(20)]
    for search in (first, second):
        for k in range(10):
            case, seed = search.drawn()
            search.found[case, seed] = Tried(k, case, seed, 1.0, "scipy", 1.0, "optimal")
    mutated = [first.mutated() for _ in range(20)]
    assert mutated == [second.mutated() for _ in range(20)]
    assert all(recipes.is_recipe(case.family) for case, _ in mutated)


def test_at_most_four_of_a_family_are_kept():
    search = Search({}, 100, 0)
    for k in range(6):
        case = Case("IoU > abs", 8, 8)
        search.found[case, k] = Tried(k / 10, case, k, 1.0, "scipy", 1.0, "optimal")
    other = Case("grid > abs", 8, 8)
    search.found[other, 0] = Tried(1.0, other, 0, 1.0, "scipy", 1.0, "optimal")
    assert [one.score for one in search.worst(9)] == [0.0, 0.1, 0.2, 0.3, 1.0]


def test_the_table():
    def row(metric, value, **extra):
        spread = Spread(math.nan, value, math.nan)
        case = "|a - b| > cap 0.5 float64 8 x 9"
        return Row("2026-11-27", "c1", "m", "slowest", case, "bmatch", metric, "", spread, extra)

    lines = slowest.table(
        [
            row("ratio", 0.5, seed=3, peer="laprust", scipy=1.5, ours=2e-3),
            row("passes", 12.0, seed=3),
        ]
    )
    assert "| \\|a - b\\| > cap 0.5 float64 | 8 x 9 | 3 | 0.5 | laprust | 1.5 | 2 |" in lines
    assert lines[-1] == "| \\|a - b\\| > cap 0.5 float64 | 8 x 9 | 3 | 12 |"
