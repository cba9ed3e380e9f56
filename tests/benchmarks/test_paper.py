"""The benchmark of the paper's claims: runs, intervals, the table, and what steering rests on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from tiny_models import WIDTH, tiny_model

from benchmarks import paper, relatives, report, results
from benchmarks.ceiling import planted
from benchmarks.interval import Interval
from benchmarks.paper import steering
from benchmarks.paper.claim import Claim, Figure
from bmatch import SignedPermutation, matching
from bmatch.transport import vector


def test_every_file_is_a_claim_or_what_claims_share():
    files = {path.stem for path in Path(paper.__file__).parent.glob("*.py")}
    shared = {"__init__", "claim", "pictures", "routes", "smollm2", "steering", "training"}
    assert files == shared | set(paper.CLAIMS)
    for name in paper.CLAIMS:
        assert paper.claim(name).settings


def test_the_interval_beside_scipy():
    values = [0.2, 0.5, 0.4, 0.9]
    found = Interval.of(values)
    wanted = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(wanted)
    assert found.mean == pytest.approx(0.5)
    assert np.isnan(Interval.of([0.3]).low)
    of_runs = [(0, 0.1), (0, 0.3), (1, 0.5), (2, 0.4), (3, 0.9)]
    assert Interval.over_runs(of_runs) == pytest.approx(found)


def test_intervals_within_runs():
    """Of two routes the halves together are the paired difference's; runs' levels do not count."""
    more, less = np.array([0.9, 0.3, 0.6, 0.7]), np.array([0.5, 0.1, 0.25, 0.2])
    found = Interval.within_runs({"more": dict(enumerate(more)), "less": dict(enumerate(less))})
    paired = scipy.stats.ttest_rel(more, less).confidence_interval(0.95)
    for name, figures in (("more", more), ("less", less)):
        assert found[name].mean == pytest.approx(figures.mean())
        assert found[name].runs == 4
        reach = (found[name].high - found[name].low) / 2
        assert reach == pytest.approx((paired.high - paired.low) / 2 / np.sqrt(2))
    levels = np.array([0.0, 5.0, -3.0, 1.0])
    moved = {"more": dict(enumerate(more + levels)), "less": dict(enumerate(less + levels))}
    for name, of_route in Interval.within_runs(moved).items():
        assert of_route.high - of_route.mean == pytest.approx(found[name].high - found[name].mean)
    one = Interval.within_runs({"more": {0: 0.9, 1: 0.3}, "less": {0: 0.5}})
    assert one["more"].mean == pytest.approx(0.9)
    assert np.isnan(one["more"].low)


def test_routes_that_are_compared_have_both_intervals(monkeypatch):
    def row(seed, route, value, metric="recovered"):
        extra = {"claim": "made", "size": "quick", "seed": seed}
        spread = results.Spread(None, value, None)
        return results.Row("", "", "", "paper", "a case", route, metric, "1", spread, extra)

    made = Claim("It holds", "91.1%", {}, None, compared=("path", "endpoint"))
    monkeypatch.setattr(paper, "CLAIMS", ("made",))
    monkeypatch.setattr(paper, "claim", {"made": made}.__getitem__)
    rows = [row(k, "path", 0.9 - 0.1 * k) for k in range(4)]
    rows += [row(k, "endpoint", 0.5 - 0.1 * k) for k in range(4)]
    rows += [row(k, "path", 0.1, "spread over tokens") for k in range(4)]
    lines = paper.table(rows)
    assert "| case | route | figure | mean | 95% interval | within runs | runs |" in lines
    assert "| a case | path | recovered | 0.750 | 0.545 to 0.955 | 0.750 to 0.750 | 4 |" in lines
    assert "| a case | path | spread over tokens | 0.100 | 0.100 to 0.100 |  | 4 |" in lines


@pytest.mark.parametrize("positive", [0, 0.2, 0.5, 1])
def test_a_gauge_with_a_share_of_positive_signs(positive):
    gauge = planted(40, positive, np.random.default_rng(0))
    assert np.mean(gauge.sign == 1) == positive


def test_a_run_that_was_cut_off_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    asked = []

    def measure(seed, size):
        asked.append(seed)
        yield Figure("a case", "signed", "recovered", "1", 0.5 + 0.1 * seed)
        if len(asked) == 3:
            raise KeyboardInterrupt
        yield Figure("a case", "raw", "recovered", "1", 0.25)

    made = Claim("It holds", "91.1%", {"steps": {"quick": 20, "full": 1500}}, measure)
    monkeypatch.setattr(paper, "CLAIMS", ("made", "absent"))
    absent = made._replace(needs=("no_such_package",))
    monkeypatch.setattr(paper, "claim", {"made": made, "absent": absent}.__getitem__)
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    with pytest.raises(KeyboardInterrupt):
        paper.main(["--claims", "made", "--dirty", "--processes", "1"])
    assert len(results.read("paper")) == 4
    paper.main(["--dirty", "--processes", "1"])
    assert asked == [0, 1, 2, 2, 3]
    assert "absent: left out, for no_such_package is not installed" in capsys.readouterr().out
    lines = report.page("paper").splitlines()
    assert "## It holds" in lines
    assert any("--claims made --quick`. The paper: 91.1%. steps: 20." in line for line in lines)
    assert "| a case | signed | recovered | 0.650 | 0.445 to 0.855 | 4 |" in lines
    assert "| a case | raw | recovered | 0.250 | 0.250 to 0.250 | 4 |" in lines


def test_steering_at_home_is_steering_in_the_other_gauge():
    model = tiny_model()
    gauge = planted(WIDTH, 0.5, np.random.default_rng(1))
    tokens = torch.arange(12)[None]

    def score(model):
        return model(input_ids=tokens).logits[:, -1, 3]

    task = steering.Task(1, torch.randn(WIDTH, generator=torch.Generator().manual_seed(2)), score)
    carried = relatives.in_gauge(model, gauge)
    home = steering.effect(model, task, task.direction)
    assert steering.effect(carried, task, vector(task.direction, gauge)) == pytest.approx(
        home, abs=1e-5
    )
    without_signs = vector(task.direction, SignedPermutation(gauge.perm))
    unsigned = steering.effect(carried, task, without_signs)
    signs = steering._signs(gauge, task.direction)
    assert steering.effect(model, task, signs * task.direction) == pytest.approx(unsigned, abs=1e-5)
    small = 1e-2 * task.direction
    slope = float((small * steering.gradient(model, task)).sum())
    assert steering.effect(model, task, small)[0] == pytest.approx(slope, rel=0.05)


def test_what_raw_matching_keeps_is_what_it_does_in_the_other_gauge(monkeypatch):
    model = tiny_model()
    tokens = torch.arange(12)[None]
    direction = torch.randn(WIDTH, generator=torch.Generator().manual_seed(2))

    def score(model):
        return model(input_ids=tokens).logits[:, -1, 3]

    task = steering.Task(1, direction, score)
    gauges = []
    monkeypatch.setattr(steering, "GAUGES", {False: 1})
    monkeypatch.setattr(
        steering, "planted", lambda *how: gauges.append(planted(*how)) or gauges[-1]
    )
    found = list(steering.kept(model, task, np.eye(WIDTH, dtype=np.float32), 0, False))
    shares = [f.value for f in found if f.route == "raw match"]
    assert len(shares) == len(gauges) - 1 == len(steering.POSITIVE)
    odd = steering.effect(model, task, direction)[0]
    for share, gauge in zip(shares, gauges[1:], strict=True):
        raw = matching.gauge_of(np.asarray(gauge.apply(np.eye(WIDTH), 0)), "permutation")
        positive = gauge.sign == 1
        assert np.array_equal(raw.perm == gauge.perm, positive)  # decorrelated: the ceiling
        carried = relatives.in_gauge(model, gauge)
        there = steering.effect(carried, task, vector(direction, raw))[0]
        assert share == pytest.approx(there / odd, abs=1e-4)
