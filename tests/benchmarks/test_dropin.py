"""benchmarks/dropin: a suite's tests run with another solver in place, and what is told of it."""

from __future__ import annotations

import pytest

from benchmarks import dropin, results
from benchmarks.dropin import PLAIN, Found

CALLS = """
import numpy as np
import scipy.optimize
from scipy.optimize import linear_sum_assignment


def test_called_by_either_name():
    for call in (linear_sum_assignment, scipy.optimize.linear_sum_assignment):
        assert call(np.eye(3) == 0)[1].tolist() == [0, 1, 2]


def test_whose_message():
    try:
        linear_sum_assignment([[np.inf, np.inf], [1, 2]])
    except ValueError as error:
        assert "row" not in str(error)


def test_without_a_call():
    assert True
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = tmp_path_factory.mktemp("suite") / "test_calls.py"
    path.write_text(CALLS)
    return {solver: dropin.run([str(path)], solver) for solver in (PLAIN, "bmatch")}


def test_calls_are_counted_with_either_solver(found):
    for one in found.values():
        assert one.calls == 3
        assert 0 < one.share < 1
        assert len(one.outcomes) == 3


def test_the_solver_is_another_one_and_what_it_loses_is_named(found):
    """The third call is answered by a sentence of bmatch's own, which names rows."""
    plain, ours = found[PLAIN], found["bmatch"]
    assert (plain.passed, ours.passed) == (3, 2)
    (lost,) = ours.lost(plain)
    assert lost.endswith("test_whose_message")
    assert plain.lost(plain) == []
    assert ours.lost(plain, ("test_whose_message",)) == []


def test_tests_that_vanish_are_lost():
    assert Found({}, 0, 0.0).lost(Found({"a": "passed", "b": "failed"}, 1, 0.5)) == ["a"]


def test_what_leaves_no_report_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="no report of"):
        dropin.run(["-p", "no_such_plugin"], PLAIN)


def test_every_use_is_in_a_suite():
    uses = {suite.use for suite in dropin.SUITES if suite.use}
    assert uses == {path.name for path in dropin.USES.glob("test_*.py")}
    assert all(bool(suite.modules) != bool(suite.use) for suite in dropin.SUITES)


def test_a_row_says_where_the_solver_was_not_called(tmp_path):
    from argparse import Namespace

    with results.appending("dropin", Namespace(out=tmp_path, dirty=False)) as out:
        for solver in (PLAIN, "bmatch"):
            extra = {"version": "1.0", "tests": 2, "origin": "its own"}
            for metric in ("passed", "calls", "share"):
                out.add("a: b", solver, metric, "", float(metric == "passed"), extra)
    line = dropin.table(results.read("dropin", tmp_path))[-1]
    assert line == "| a 1.0 | b | its own | 1 of 2 | 1 of 2 | none: not tested | 0% | 0% |"
