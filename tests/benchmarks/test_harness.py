"""benchmarks/harness.py: whose turn it is, and what times come to."""

from __future__ import annotations

import itertools

from benchmarks import harness
from benchmarks.harness import Spread


def recorded(names):
    """Calls that write down when they were made, and the list they write to."""
    made = []

    def call(name):
        def run():
            made.append(name)
            return f"{name}{made.count(name)}"

        return run

    return {name: call(name) for name in names}, made


def test_every_round_takes_all_in_an_order_of_its_own():
    calls, made = recorded("abcd")
    found = harness.in_turns(calls, 20, seed=1)
    assert found == {name: [f"{name}{k}" for k in range(1, 21)] for name in "abcd"}
    rounds = [tuple(made[k : k + 4]) for k in range(0, 80, 4)]
    assert all(sorted(turn) == list("abcd") for turn in rounds)
    assert len(set(rounds)) > 10
    again, made_again = recorded("abcd")
    harness.in_turns(again, 20, seed=1)
    assert made_again == made


def test_those_that_are_called_less_often_take_part_in_the_first_rounds():
    calls, made = recorded("abc")
    found = harness.in_turns(calls, {"a": 3, "b": 1, "c": 0}, seed=0)
    assert found == {"a": ["a1", "a2", "a3"], "b": ["b1"], "c": []}
    assert set(made[:2]) == {"a", "b"}
    assert harness.in_turns({}, 3, seed=0) == {}


def test_warming_up_counts_for_nothing():
    calls, made = recorded("ab")
    found = harness.in_turns(calls, 1, seed=0, warm_up=True)
    assert made[:2] == ["a", "b"]
    assert found == {"a": ["a2"], "b": ["b2"]}


def test_percentiles():
    assert Spread.of([5.0, 1.0, 3.0, 2.0, 4.0, 6.0]) == (2.0, 3.5, 5.0)
    assert Spread.of([7.0]) == (7.0, 7.0, 7.0)


def test_time_is_the_call_s(monkeypatch):
    ticks = itertools.count(10.0, 0.25)
    monkeypatch.setattr(harness.time, "perf_counter", lambda: next(ticks))
    done = []
    assert harness.timed(lambda: done.append(1))() == 0.25
    assert done == [1]


def test_no_case_begins_when_time_is_over(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(harness.time, "monotonic", lambda: now[0])
    left, always = harness.until(5.0), harness.until(None)
    assert left()
    now[0] = 105.0
    assert not left()
    assert always()


def test_a_long_stage_tells_how_far_it_has_come(capsys, monkeypatch):
    clock = itertools.count(0.0, 4.0)
    monkeypatch.setattr(harness.time, "monotonic", lambda: next(clock))
    assert list(harness.telling("abcdef", "steps")) == list("abcdef")
    assert capsys.readouterr().out.splitlines() == [
        "steps: 6 to do",
        "steps: 2 of 6, 24 s left",
        "steps: 5 of 6, 5 s left",
        "steps: done in 28 s",
    ]
