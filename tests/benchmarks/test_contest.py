"""benchmarks/contest.py: rightness before time, and trials that may crash or hang."""

from __future__ import annotations

import math
import os
import time

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from benchmarks import contest, peers
from benchmarks.contest import CRASHED, OPTIMAL, REFUSED, SLOW, WRONG, Ratios
from benchmarks.peers import OURS, Solver

# Solvers are called with a matrix of 4 rows first, to warm up.


def identity(cost):
    return np.arange(len(cost)), np.arange(len(cost))


def refusing(cost):
    raise ValueError("no such matrices")


def crashing(cost):
    if len(cost) != 4:
        os._exit(3)
    return identity(cost)


def hanging(cost):
    if len(cost) != 4:
        time.sleep(60)
    return identity(cost)


def twice_the_same(cost):
    return np.arange(len(cost)), np.zeros(len(cost), int)


def test_outcomes():
    solvers = {
        OURS: Solver("bmatch", linear_sum_assignment),
        "scipy": Solver("scipy", linear_sum_assignment),
        "identity": Solver("x", identity),
        "refusing": Solver("x", refusing),
        "crashing": Solver("x", crashing),
        "hanging": Solver("x", hanging),
        "twice": Solver("x", twice_the_same),
    }
    matrices = [np.random.default_rng(k).random((9, 9)) for k in range(2)]
    with contest.Trials() as trials:
        found = contest.hold(matrices, solvers, trials, 0, seconds=0.002)
    assert {name: one.outcome for name, one in found.items()} == {
        OURS: OPTIMAL,
        "scipy": OPTIMAL,
        "identity": WRONG,
        "refusing": REFUSED,
        "crashing": CRASHED,
        "hanging": SLOW,
        "twice": WRONG,
    }
    assert found["refusing"].note == "ValueError: no such matrices"
    assert found["crashing"].note == "exit code 3"
    assert 0 < found["identity"].excess < math.inf
    assert found["twice"].excess == math.inf
    assert found["hanging"].least == contest.LEAST
    for name, one in found.items():
        assert math.isnan(one.spread.p50) == (one.outcome != OPTIMAL), name
    assert found[OURS].rounds >= 1
    assert 0 < found[OURS].least <= found[OURS].spread.p50


def test_a_sum_is_that_of_a_complete_matching():
    cost = np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    assert contest.objective(cost, [0, 1], [2, 0]) == 12
    for rows, cols in (
        ([0], [1]),
        ([0, 1], [1, 1]),
        ([0, 1], [0, 3]),
        ([0, 1], [-1, 0]),
        ([0, 1], [0]),
    ):
        assert math.isnan(contest.objective(cost, rows, cols))


def test_ratios_are_of_least_times():
    ratios = Ratios.of(
        {
            OURS: (OPTIMAL, 2.0),
            "scipy": (SLOW, 40.0),
            "quick and wrong": (WRONG, 0.1),
            "laprust": (OPTIMAL, 3.0),
            "lapcpp": (OPTIMAL, 5.0),
        }
    )
    assert ratios == (1.5, "laprust", 20.0)
    assert math.isnan(Ratios.of({OURS: (OPTIMAL, 1.0), "scipy": (REFUSED, math.nan)}).best)


def test_those_that_are_installed_are_asked():
    found = contest.installed(["scipy"])
    assert set(found) == {OURS, "scipy"}
    assert peers.READ not in contest.installed()


@pytest.mark.parametrize("cost", [np.eye(5, 5), np.eye(300)])
def test_passes_are_seconds_a_matrix(cost):
    calls = []
    assert contest.passes(lambda c: calls.append(c), [cost, cost], 3) < 1
    assert len(calls) == 6
